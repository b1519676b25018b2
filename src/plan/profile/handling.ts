/** @file What devices did beside computing layers, from measured iterations. */
import type { MeasuredSpan, MeasuredTimeline } from './correct.ts';
import type { Handling } from './types.ts';

/**
 * Mean times of what is no layer's work over all devices of `timelines`; `stepMs` is the median of those that tell how long the host waited, 0 when none
 * does. Waits (receives, collectives) count as nothing: how long they are follows from the program.
 */
export function measuredHandling(timelines: readonly MeasuredTimeline[]): Handling {
	const devices = timelines.flatMap(({ devices: all }) => all.map(({ spans }) => spans.filter(({ beside }) => !beside)));
	const spans = devices.flat();
	const of = (wanted: (span: MeasuredSpan) => boolean) => mean(spans.filter(wanted).map(({ start, end }) => end - start));
	const gaps = devices.flatMap((own) => own.slice(1).map((span, i) => Math.max(0, span.start - own[i]!.end)));
	const drops = spans.flatMap(({ kind, start, end }) => (kind === 'drop' ? [end - start] : []));
	const between = [...gaps, ...drops].reduce((sum, ms) => sum + ms, 0) / Math.max(1, spans.length - drops.length - devices.length);
	const waited = timelines.flatMap(messageTimes);
	const outside = timelines.flatMap(({ stepMs, devices: all }) => {
		const times = all.flatMap((device) => device.spans.flatMap(({ start, end }) => [start, end]));
		return stepMs === undefined || times.length === 0 ? [] : [Math.max(0, stepMs - (Math.max(...times) - Math.min(...times)))];
	});
	return {
		feedMs: of(({ kind }) => kind === 'feed'),
		fetchMs: of(({ kind }) => kind === 'fetch'),
		joinMs: of(({ kind, action }) => kind === 'run' && !action),
		sendMs: of(({ kind }) => kind === 'send'),
		betweenMs: between,
		...(waited.length === 0 ? {} : { messageMs: median(waited) }),
		stepMs: outside.length === 0 ? 0 : median(outside),
	};
}

/** How long after their send the messages came that a device waited for: those that were not there when it asked. */
function messageTimes({ devices }: MeasuredTimeline): number[] {
	const spans = devices.flatMap((device) => device.spans);
	const sent = new Map(spans.flatMap(({ kind, message, end }) => (kind === 'send' && message !== undefined ? [[message, end]] : [])));
	return spans.flatMap(({ kind, message, start, end }) => {
		const at = kind === 'recv' && message !== undefined ? sent.get(message) : undefined;
		return at !== undefined && start < at ? [Math.max(0, end - at)] : [];
	});
}

function median(values: readonly number[]): number {
	return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

function mean(values: readonly number[]): number {
	return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}
