/**
 * @file Training on two devices (1F1B, two stages cut by measured times) against one device on the same micro-batches, and where the
 * rest of the time goes.
 *
 * With M micro-batches a pipeline of S equal stages is at best M / (M + S - 1) * S times as fast as one device; `of_ideal` is the
 * measured speed-up over that. Every round takes one step of each kind, so that all meet the same state of the machine. `machine_ceiling`
 * is what two single-device runs side by side, which share nothing but the machine, do over one alone: cores share memory bandwidth
 * and clock, and a pipeline cannot gain more from two of them than that.
 */
import { measureGraphs } from '../dist/engine/local/measure.js';
import { simulate } from '../dist/engine/simulate/simulate.js';
import { extentOf } from '../dist/program/timeline.js';
import { renderTimeline } from '../dist/program/timeline-text.js';
import { breakdown, breakdownColumns, meanBreakdown } from './lib/breakdown.mjs';
import { normalNumbers } from './lib/dit-training.mjs';
import { median, significant } from './lib/stats.mjs';
import { openTraining } from './lib/training.mjs';

export const title = 'Training on two devices (1F1B, 8 micro-batches) against one: share of the ideal speed-up';

const [stages, microBatches, microBatchSize] = [2, 8, 8];
const batchSize = microBatches * microBatchSize;
const ideal = (microBatches / (microBatches + stages - 1)) * stages;

const configOf = (pipelineStages) => ({
	seed: 1,
	model: {
		type: 'DiTTransformer2DModel',
		num_attention_heads: 4,
		attention_head_dim: 64,
		num_layers: 8,
		patch_size: 2,
		sample_size: 16,
		in_channels: 4,
		num_embeds_ada_norm: 10,
	},
	scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
	data: { type: 'mnist' },
	train: { max_steps: 1000, batch_size: batchSize, gradient_accumulation_steps: microBatches },
	parallel: { pipeline_stages: pipelineStages, pipeline_schedule: '1f1b' },
});

/** A batch of noise: what the pixels are does not matter to the time. */
const batch = {
	step: 0,
	images: normalNumbers(batchSize * 4 * 16 * 16, 1),
	labels: Int32Array.from({ length: batchSize }, (_, i) => i % 10),
	captions: [],
	names: [],
};

async function open(pipelineStages) {
	const run = await openTraining(configOf(pipelineStages));
	const feeds = run.feeds(batch);
	let count = 0;
	return { ...run, next: () => run.step(count++, feeds, { trace: true }) };
}

/** The step whose wall time is the median (the upper one of two). */
function middleStep(steps) {
	return [...steps].sort((a, b) => a.ms - b.ms)[steps.length >> 1];
}

/** Predicted timeline of the two-device program. `runMs` gives the time of a graph; the rest is as measured on the step `like`. */
function predict(program, runMs, like) {
	const parts = like.timeline.devices.flatMap(({ device, spans }) => spans.map((span) => ({ device, ...span })));
	const meanOf = (kind) => {
		const of = parts.filter((p) => p.kind === kind);
		return of.reduce((ms, p) => ms + p.end - p.start, 0) / Math.max(1, of.length);
	};
	const elements = program.devices.reduce((n, d) => n + d.banks.reduce((m, b) => m + b.size, 0), 0);
	const updateMs = parts.filter((p) => p.kind === 'update').reduce((ms, p) => ms + p.end - p.start, 0) / elements;
	return simulate(program, {
		runMs,
		transferMs: () => meanOf('send'),
		allReduceMs: () => 0,
		updateMs: (n) => n * updateMs,
		feedMs: () => meanOf('feed'),
		fetchMs: () => meanOf('fetch'),
	});
}

/** Median time of each graph of a program on the device that runs it, over traced steps. */
function tracedTimes(program, steps) {
	const times = new Map();
	for (const { timeline } of steps) {
		timeline.devices.forEach(({ device, spans }, k) => {
			const runs = program.devices[k].iteration.filter((i) => i.op === 'run');
			spans
				.filter((s) => s.kind === 'run')
				.forEach((span, n) => {
					const key = `${runs[n].graph} ${device}`;
					times.set(key, [...(times.get(key) ?? []), span.end - span.start]);
				});
		});
	}
	return (graph, device) => median(times.get(`${graph} ${device}`));
}

const rowsOf = (run, devices) => devices.map((d) => ({ run, device: d.device, ...breakdownColumns(d) }));

export async function run({ quick, log }) {
	const rounds = quick ? 3 : 11;
	const opened = [];
	const times = { alone: [], beside: [], two: [] };
	try {
		for (const n of [1, 1, stages]) opened.push(await open(n));
		const [one, other, two] = opened;
		log(`stages: ${two.plan.stages.map((s) => `${s.layers[0]} to ${s.layers.at(-1)}, ${s.ms.toFixed(1)} ms a micro-batch`).join('; ')}`);
		for (const r of opened) await r.next();
		for (let round = 0; round < rounds; round++) {
			times.alone.push(await one.next());
			times.two.push(await two.next());
			const start = performance.now();
			await Promise.all([one.next(), other.next()]);
			times.beside.push(performance.now() - start);
			log(`round ${round + 1} of ${rounds}: one ${Math.round(times.alone.at(-1).ms)} ms, two ${Math.round(times.two.at(-1).ms)} ms`);
		}
		const { program, graphs } = two.plan.compiled;
		const ids = [...graphs.keys()];
		const alone = await measureGraphs(ids.map((id) => graphs.get(id)));
		return results(program, times, (id) => alone[ids.indexOf(id)], log);
	} finally {
		for (const r of opened) await r.close();
	}
}

function results(program, times, aloneMs, log) {
	// Of each round on its own: a state of the machine that comes and goes meets both sides of a round.
	const speedUp = median(times.alone.map((s, i) => s.ms / times.two[i].ms));
	const ceiling = median(times.alone.map((s, i) => (2 * s.ms) / times.beside[i]));
	const [oneMs, twoMs] = [times.alone, times.two].map((steps) => median(steps.map((s) => s.ms)));
	const least = (steps) => Math.min(...steps.map((s) => s.ms));
	const [one, two] = [middleStep(times.alone), middleStep(times.two)];
	const simulated = predict(program, aloneMs, two);
	const simulatedFromTrace = predict(program, tracedTimes(program, times.two), two);
	const lengthOf = (timeline) => extentOf(timeline).end - extentOf(timeline).start;
	log(renderTimeline(two.timeline, 100));
	const [oneParts, twoParts] = [breakdown(one.timeline), breakdown(two.timeline)];
	const withoutSends = { devices: simulated.devices.map((d) => ({ ...d, spans: d.spans.filter((s) => s.kind !== 'send') })) };
	const rows = [
		...rowsOf('one device', oneParts),
		...rowsOf('two devices', twoParts),
		...rowsOf('two devices, simulated from graphs measured alone', breakdown(withoutSends)),
	];
	// What two devices should need of the one device's time, and what each part takes beyond that; the parts add up to the whole.
	const [a, b] = [meanBreakdown(oneParts), meanBreakdown(twoParts)];
	const bubble = (one.ms / stages) * ((stages - 1) / microBatches);
	const slowest = Math.max(...twoParts.map((d) => d.work));
	const imbalance = (slowest - b.work) * ((microBatches + stages - 1) / microBatches);
	const share = (ms) => significant(ms / two.ms, 3);
	return {
		rows,
		figures: {
			one_images_per_second: significant((1000 * batchSize) / oneMs),
			two_images_per_second: significant((1000 * batchSize) / twoMs),
			speed_up: significant(speedUp),
			ideal_speed_up: significant(ideal),
			of_ideal: significant(speedUp / ideal),
			of_ideal_least: significant(least(times.alone) / least(times.two) / ideal),
			machine_ceiling: significant(ceiling),
			simulated_of_ideal: significant(oneMs / lengthOf(simulated) / ideal),
			simulated_over_measured: significant(lengthOf(simulatedFromTrace) / two.ms),
			ideal_bubble_share: share(bubble),
			lost_to_slower_work: share(b.work - a.work / stages),
			lost_to_imbalance: share(imbalance),
			lost_to_other_waits: share(b.wait - a.wait / stages - bubble - imbalance),
			lost_to_all_reduce: share(b.all_reduce),
			lost_to_update: share(b.update - a.update / stages),
			lost_to_transfer: share(b.transfer - a.transfer / stages),
			lost_between_steps: share(two.ms - b.total - (one.ms - a.total) / stages),
		},
	};
}
