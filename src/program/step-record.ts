/** @file The record of a measured step: its timeline, how long it took, and the most that each device held; plain data, read back with every field checked. */
import * as v from 'valibot';
import { DiffusionPipeError } from '../core/errors.ts';
import { finite, notNegative, parseDocument, version } from '../plan/parse.ts';
import type { Span, Timeline } from './timeline.ts';
import { type DeviceId, deviceId } from './types.ts';

/** The most that a device holds during a step: banks, slots, and what the running graph needs besides. */
export interface DeviceMemory {
	readonly device: DeviceId;
	/** Banks, all the time. */
	readonly fixedBytes: number;
	/** What the verifier found for the program. */
	readonly predictedBytes: number;
	/** Absent where graphs cannot be measured. */
	readonly measuredBytes?: number;
}

export interface StepRecord extends Timeline {
	readonly version: 1;
	/** Steps done, from 1. */
	readonly step: number;
	/** With everything around the devices' work, such as handing over feeds. */
	readonly stepMs: number;
	/** Given of a step with a sweep ahead. */
	readonly swept?: true;
	readonly memory: readonly DeviceMemory[];
}

const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const range = v.strictTuple([whole, whole]);
const device = v.pipe(
	whole,
	v.transform((n): DeviceId => deviceId(n)),
);
const span = v.strictObject({
	name: v.string(),
	kind: v.picklist(['run', 'frozen', 'send', 'recv', 'allReduce', 'allGather', 'update', 'feed', 'fetch', 'drop', 'idle']),
	start: finite,
	end: finite,
	action: v.exactOptional(v.strictObject({ stage: whole, kind: v.picklist(['F', 'B', 'I', 'W']), micro: whole })),
	frozen: v.exactOptional(v.strictObject({ part: v.string(), layers: range, samples: range })),
	message: v.exactOptional(v.string()),
	iteration: v.exactOptional(whole),
	part: v.exactOptional(v.string()),
	beside: v.exactOptional(v.literal(true)),
	details: v.exactOptional(v.record(v.string(), v.union([v.string(), finite]))),
});
const schema = v.strictObject({
	version,
	step: whole,
	stepMs: notNegative,
	swept: v.exactOptional(v.literal(true)),
	devices: v.array(v.strictObject({ device, spans: v.array(span) })),
	memory: v.array(
		v.strictObject({ device, fixedBytes: notNegative, predictedBytes: notNegative, measuredBytes: v.exactOptional(notNegative) }),
	),
});

/** The record with times in whole microseconds from the step's start, which is what clocks tell. */
export function recordDocument(record: StepRecord): StepRecord {
	const round = (ms: number) => Math.round(ms * 1e3) / 1e3;
	const rounded = (each: Span): Span => ({ ...each, start: round(each.start), end: round(each.end) });
	return {
		...record,
		stepMs: round(record.stepMs),
		devices: record.devices.map(({ device: id, spans }) => ({ device: id, spans: spans.map(rounded) })),
	};
}

/**
 * The record that `raw` (parsed JSON) describes.
 * @param place what to name in messages, as the file
 * @throws DiffusionPipeError of kind 'input' naming the field
 */
export function readRecord(raw: unknown, place = 'timeline'): StepRecord {
	const record = parseDocument(schema, raw, 'timeline', place);
	for (const { device: id, spans } of record.devices) {
		for (const { name, start, end } of spans) {
			if (end >= start) continue;
			throw new DiffusionPipeError('input', 'ends before it starts', {
				place: `${place}: device ${id}, ${name}`,
				expected: `at least ${start}`,
				found: String(end),
			});
		}
	}
	return record;
}
