/** @file Room for what goes on beside a device's work: transfers may overlap each other, what is drawn in one lane may not. */
import type { Span } from './timeline.ts';

/** Transfers and what else does not occupy its device, each in the first lane that is free when it starts. Waits belong to the work and have no lane. */
export function besideLanes(spans: readonly Span[]): { readonly laneOf: ReadonlyMap<Span, number>; readonly lanes: number } {
	const laneOf = new Map<Span, number>();
	const freeAt: number[] = [];
	const beside = spans.filter((span) => span.kind === 'send' || span.beside === true);
	for (const span of beside.sort((a, b) => a.start - b.start || a.end - b.end)) {
		const free = freeAt.findIndex((ms) => ms <= span.start);
		const lane = free < 0 ? freeAt.length : free;
		freeAt[lane] = span.end;
		laneOf.set(span, lane);
	}
	return { laneOf, lanes: freeAt.length };
}
