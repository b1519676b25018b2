/** @file Timelines as a Chrome trace, for Perfetto and chrome://tracing. */
import { besideLanes } from './lanes.ts';
import type { Span, Timeline } from './timeline.ts';

/** One event of the Trace Event Format; times in microseconds. */
export interface TraceEvent {
	readonly name: string;
	/** X complete span, M metadata, s and f the two ends of an arrow, C counter. */
	readonly ph: 'X' | 'M' | 's' | 'f' | 'C';
	readonly pid: number;
	readonly tid: number;
	readonly ts?: number;
	readonly dur?: number;
	readonly cat?: string;
	readonly id?: number;
	/** `e`: the arrow ends at the span around its time. */
	readonly bp?: 'e';
	readonly args?: Readonly<Record<string, string | number>>;
}

/** A timeline to be shown. */
export interface TracedTimeline {
	readonly name: string;
	readonly timeline: Timeline;
	/** Bytes that each device of the timeline holds from when on, in their order. */
	readonly memory?: readonly (readonly { readonly ms: number; readonly bytes: number }[])[];
}

export interface ChromeTrace {
	readonly traceEvents: readonly TraceEvent[];
	readonly displayTimeUnit: 'ms';
}

/**
 * One process per timeline and two threads per device, more where transfers overlap: work (frozen layers with it), and what goes on beside it (transfers,
 * sums of gradients of a prediction), with an arrow from each send to its receive, or to the run that waited for it, and a counter of memory where it is known. `JSON.stringify` of the result is a trace file. Several timelines (predicted, measured) are shown below each other on one time axis.
 */
export function toChromeTrace(timelines: readonly TracedTimeline[]): ChromeTrace {
	const traceEvents: TraceEvent[] = [];
	const arrows = new Map<string, number>();
	timelines.forEach(({ name, timeline, memory = [] }, pid) => {
		const label = (tid: number, what: string, args: Record<string, string | number>) => {
			traceEvents.push({ name: what, ph: 'M', pid, tid, args });
		};
		label(0, 'process_name', { name });
		label(0, 'process_sort_index', { sort_index: pid });
		const count = 1 + Math.max(-1, ...timeline.devices.map(({ device }) => device));
		for (const [i, { device, spans }] of timeline.devices.entries()) {
			for (const { ms, bytes } of memory[i] ?? [])
				traceEvents.push({ name: `memory of device ${device}`, ph: 'C', pid, tid: 2 * device, ts: microseconds(ms), args: { bytes } });
			const work = 2 * device;
			label(work, 'thread_name', { name: `device ${device}` });
			label(work, 'thread_sort_index', { sort_index: 100 * device });
			// Spans of one thread have to nest.
			const { laneOf, lanes } = besideLanes(spans);
			const laneThread = (lane: number) => work + 1 + lane * 2 * count;
			for (let lane = 0; lane < lanes; lane++) {
				label(laneThread(lane), 'thread_name', { name: `device ${device} transfers${lane > 0 ? ` ${lane + 1}` : ''}` });
				label(laneThread(lane), 'thread_sort_index', { sort_index: 100 * device + 1 + lane });
			}
			for (const span of spans) {
				const lane = laneOf.get(span);
				const tid = lane === undefined ? work : laneThread(lane);
				const ts = microseconds(span.start);
				traceEvents.push({ name: span.name, ph: 'X', pid, tid, ts, dur: microseconds(span.end) - ts, cat: span.kind, args: argsOf(span) });
				if (span.message === undefined) continue;
				const key = `${pid} ${span.message}`;
				const id = arrows.get(key) ?? arrows.size;
				arrows.set(key, id);
				const arrow = { name: 'message', pid, tid, cat: 'message', id } as const;
				if (span.kind === 'send') traceEvents.push({ ...arrow, ph: 's', ts });
				else traceEvents.push({ ...arrow, ph: 'f', bp: 'e', ts: span.kind === 'recv' ? microseconds(span.end) : ts });
			}
		}
	});
	return { traceEvents, displayTimeUnit: 'ms' };
}

function argsOf({ action, iteration, part, details }: Span): Record<string, string | number> {
	return {
		...(action ? { stage: action.stage, kind: action.kind, micro: action.micro } : {}),
		...(iteration === undefined ? {} : { iteration }),
		...(part ? { part } : {}),
		...details,
	};
}

/** To whole nanoseconds, so that sums of floating-point times print short. */
function microseconds(ms: number): number {
	return Math.round(ms * 1e6) / 1e3;
}
