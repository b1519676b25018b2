/** @file Timelines: what each device did when, predicted and measured alike, and how much of it was waiting. */
import type { Action } from '../plan/schedules/types.ts';
import type { DeviceId, FrozenRun } from './types.ts';

/**
 * `send` is the transfer itself and may overlap with other spans of its device; `recv` is the wait for a message and `idle` any other wait. `frozen` is
 * a layer of a frozen component that runs between the schedule's actions. `drop` gives memory back, which takes time only where it is measured.
 */
export type SpanKind = 'run' | 'frozen' | 'send' | 'recv' | 'allReduce' | 'allGather' | 'update' | 'feed' | 'fetch' | 'drop' | 'idle';

export interface Span {
	readonly name: string;
	readonly kind: SpanKind;
	/** ms, on a clock that all devices share. */
	readonly start: number;
	readonly end: number;
	/** Of a run that the schedule asked for. */
	readonly action?: Action;
	/** Of frozen work that a device ran: what exactly. */
	readonly frozen?: FrozenRun;
	/** Channel and number of a message, the same on the span that sends it and the span that receives it. */
	readonly message?: string;
	/** Which iteration, from 0; absent in prologue and epilogue. */
	readonly iteration?: number;
	/** The model it belongs to, where there are several: a backbone, or a frozen component. */
	readonly part?: string;
	/** Goes on beside the device's work, as every `send` does, and does not occupy it. */
	readonly beside?: true;
	/** What else is worth knowing, by name: shown where a person points at the span, and kept in traces. */
	readonly details?: Readonly<Record<string, string | number>>;
}

export interface DeviceTimeline {
	readonly device: DeviceId;
	/** In order of execution. */
	readonly spans: readonly Span[];
}

export interface Timeline {
	readonly devices: readonly DeviceTimeline[];
}

/** A stretch of time, ms. */
export interface Interval {
	readonly start: number;
	readonly end: number;
}

/** True for the kinds that occupy a device; the others are waits, and transfers, which go on beside its work. */
export function isBusy(kind: SpanKind): boolean {
	return kind !== 'send' && kind !== 'recv' && kind !== 'idle';
}

/** True for spans that occupy their device. */
export function occupies({ kind, beside }: Span): boolean {
	return isBusy(kind) && !beside;
}

/** From the first start to the last end over all devices; 0 to 0 when there are no spans. */
export function extentOf(timeline: Timeline): Interval {
	let start = Number.POSITIVE_INFINITY;
	let end = Number.NEGATIVE_INFINITY;
	for (const { spans } of timeline.devices) {
		for (const span of spans) {
			start = Math.min(start, span.start);
			end = Math.max(end, span.end);
		}
	}
	return start <= end ? { start, end } : { start: 0, end: 0 };
}

/** The timeline's spans of one iteration only. */
export function ofIteration(timeline: Timeline, iteration: number): Timeline {
	return {
		devices: timeline.devices.map(({ device, spans }) => ({ device, spans: spans.filter((span) => span.iteration === iteration) })),
	};
}

/** When the device works: its busy spans, joined where they touch or overlap, in order of time. */
export function busyIntervals({ spans }: DeviceTimeline): Interval[] {
	const joined: { start: number; end: number }[] = [];
	const busy = spans.filter((span) => occupies(span) && span.end > span.start).sort((a, b) => a.start - b.start);
	for (const { start, end } of busy) {
		const last = joined.at(-1);
		if (last && start <= last.end) last.end = Math.max(last.end, end);
		else joined.push({ start, end });
	}
	return joined;
}

/** When the device waits: what is left of `within` (such as the extent of all devices) between its busy intervals. */
export function idleIntervals(device: DeviceTimeline, within: Interval): Interval[] {
	const idle: Interval[] = [];
	let from = within.start;
	for (const { start, end } of busyIntervals(device)) {
		if (Math.min(start, within.end) > from) idle.push({ start: from, end: Math.min(start, within.end) });
		from = Math.max(from, end);
	}
	if (within.end > from) idle.push({ start: from, end: within.end });
	return idle;
}

/** Share of the timeline's extent in which each device works, 0 to 1, in the order of the devices. 0 when the extent is empty. */
export function busyShares(timeline: Timeline): number[] {
	const { start, end } = extentOf(timeline);
	return timeline.devices.map((device) => {
		const busy = busyIntervals(device).reduce((sum, interval) => sum + interval.end - interval.start, 0);
		return end > start ? busy / (end - start) : 0;
	});
}

/** Share of all devices' time in which they wait, 0 to 1; 0 when the extent is empty. */
export function bubbleRatio(timeline: Timeline): number {
	const shares = busyShares(timeline);
	const { start, end } = extentOf(timeline);
	return end > start ? 1 - shares.reduce((a, b) => a + b, 0) / shares.length : 0;
}
