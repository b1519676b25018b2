/** @file Plans as JSON: written so that any reader can take them, read back with every field checked. */
import * as v from 'valibot';
import { DiffusionPipeError } from '../core/errors.ts';
import { count, finite, notNegative, parseDocument, placeOf, version } from './parse.ts';
import { parseAction } from './schedules/text.ts';
import type { Plan } from './types.ts';

const whole = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const range = v.strictTuple([whole, whole]);
const share = v.pipe(finite, v.maxValue(1));

const item = v.strictObject({
	device: whole,
	startMs: notNegative,
	endMs: notNegative,
	component: v.string(),
	layer: whole,
	samples: range,
});
const move = v.strictObject({
	from: whole,
	to: whole,
	startMs: notNegative,
	endMs: notNegative,
	component: v.string(),
	layer: whole,
	samples: range,
});
const stage = v.strictObject({
	backbone: v.string(),
	layers: range,
	devices: v.pipe(v.array(whole), v.nonEmpty()),
	rank: whole,
	replicas: count,
	forwardMs: notNegative,
	backwardMs: notNegative,
	syncMs: notNegative,
});
const baseline = v.strictObject({
	name: v.string(),
	/** JSON has no infinity. */
	iterationMs: v.pipe(
		v.nullable(notNegative),
		v.transform((ms) => ms ?? Number.POSITIVE_INFINITY),
	),
	imagesPerSecond: notNegative,
	peakBytes: notNegative,
	fits: v.boolean(),
	detail: v.string(),
});

const schema = v.strictObject({
	version,
	profile: v.string(),
	batch: count,
	devices: count,
	pipelines: count,
	ranks: count,
	microBatches: count,
	schedule: v.string(),
	warmup: v.picklist(['usual', 'deep']),
	placement: v.picklist(['linear', 'folded']),
	layout: v.picklist(['pipelines', 'copies']),
	recompute: v.boolean(),
	stages: v.pipe(v.array(stage), v.nonEmpty()),
	iterationMs: notNegative,
	lowerBoundMs: notNegative,
	pipelineMs: notNegative,
	frozenMs: notNegative,
	imagesPerSecond: notNegative,
	bubbleRatio: v.strictObject({ unfilled: share, filled: share }),
	peakBytes: v.array(notNegative),
	fill: v.array(item),
	moves: v.array(move),
	rows: v.array(v.string()),
	selfConditioning: v.exactOptional(
		v.strictObject({
			probability: v.pipe(notNegative, v.maxValue(1)),
			iterationMs: notNegative,
			rows: v.array(v.string()),
			fill: v.array(item),
			moves: v.array(move),
		}),
	),
	baselines: v.array(baseline),
});

/** The plan as a value that JSON can hold: a time that is never reached becomes null. */
export function planDocument(plan: Plan): unknown {
	return {
		...plan,
		baselines: plan.baselines.map((b) => ({ ...b, iterationMs: Number.isFinite(b.iterationMs) ? b.iterationMs : null })),
	};
}

/**
 * The plan that `raw` (parsed JSON) describes.
 * @param place what to name in messages, as the file
 * @throws DiffusionPipeError of kind 'input' naming the field: its form, or numbers that do not fit each other
 */
export function readPlan(raw: unknown, place = 'plan'): Plan {
	const plan: Plan = parseDocument(schema, raw, 'plan', place);
	const { stages, rows, ranks, pipelines, devices, batch, fill, moves } = plan;
	const refuse = (keys: readonly (string | number)[], what: string, expected: string, found: string | number) => {
		throw new DiffusionPipeError('input', what, { place: placeOf(place, keys, raw), expected, found: String(found) });
	};
	if (batch % (pipelines * plan.microBatches) !== 0)
		refuse(['batch'], 'does not part evenly', `a multiple of pipelines * microBatches = ${pipelines * plan.microBatches}`, batch);
	stages.forEach(({ layers, rank, replicas, devices: own }, i) => {
		const at = ['stages', i];
		if (layers[0] >= layers[1]) refuse([...at, 'layers'], 'holds no layer', '[from, to) with from below to', JSON.stringify(layers));
		if (rank >= ranks) refuse([...at, 'rank'], 'is no rank', `below ${ranks}`, rank);
		if (own.length !== pipelines * replicas)
			refuse([...at, 'devices'], 'has another length than pipelines * replicas', String(pipelines * replicas), own.length);
		own.forEach((device, d) => {
			if (device >= devices) refuse([...at, 'devices', d], 'is no device', `below ${devices}`, device);
		});
	});
	for (let rank = 0; rank < ranks; rank++) {
		const shared = new Set(stages.filter((s) => s.rank === rank).map((s) => s.replicas));
		if (shared.size !== 1)
			refuse(['stages'], `do not agree on rank ${rank}`, 'stages with one number of replicas', [...shared].join(' and ') || 'none');
	}
	if (rows.length !== ranks) refuse(['rows'], 'has another length than ranks', String(ranks), rows.length);
	rows.forEach((row, rank) => {
		row.split(',').forEach((cell, i) => {
			const action = parseAction(cell, `${placeOf(place, ['rows', rank], raw)}, cell ${i}`);
			if (action.stage >= stages.length)
				refuse(['rows', rank], 'runs a stage that is not there', `stages below ${stages.length}`, action.stage);
			if (action.micro >= plan.microBatches)
				refuse(['rows', rank], 'runs a micro-batch that is not there', `micro-batches below ${plan.microBatches}`, action.micro);
		});
	});
	[fill, moves].forEach((list, which) => {
		list.forEach((each, i) => {
			const at = [which === 0 ? 'fill' : 'moves', i];
			if (each.endMs < each.startMs) refuse([...at, 'endMs'], 'lies before its start', `at least ${each.startMs}`, each.endMs);
			if (each.samples[0] >= each.samples[1] || each.samples[1] > batch)
				refuse([...at, 'samples'], 'are no samples of the batch', `[from, to) within [0, ${batch})`, JSON.stringify(each.samples));
		});
	});
	return plan;
}
