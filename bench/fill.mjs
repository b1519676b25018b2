/**
 * @file DiffusionPipe for real: two devices train a denoiser under frozen encoders, with the encoders in the bubbles or not, side by side in one run.
 *
 * Two workloads: `sd` (frozen over trained time near 0.4) and `controlnet` (near 0.8, the locked U-Net's encoder among the frozen parts). Each round takes one
 * step of every kind, each time beginning with another; medians count. Of a plan with b = (S-1)/M and the measured ratio r, filling can gain at most (1 + b + r) / max(1 + b, 1 + r):
 * `of_ideal` is what it gained over that. Plans are made from layers measured one by one and corrected by traced steps of the unfilled
 * pipeline, predictions by walking the programs with these costs. `prediction_error`: median of |predicted - measured| / measured over all plans.
 * `memory_error`: the same of the most memory that each device holds. `bubble_share`: of the filled iterations, as traced. With DIFFUSIONPIPE_PYTHON: the same training in PyTorch on the same cores (DistributedDataParallel and torch.distributed.pipelining 1F1B, both
 * over Gloo, encoders inline).
 */
import { programMs } from '../dist/engine/simulate/costs.js';
import { correctProfile } from '../dist/plan/profile/correct.js';
import { bubbleRatio } from '../dist/program/timeline.js';
import { frozenOverTrained, memoryErrors, traceByTurns } from './lib/fill-figures.mjs';
import { controlNetJob, denoiserJob, measureJob, openFillRun } from './lib/fill-job.mjs';
import { geometricMean, median, significant } from './lib/stats.mjs';

export const title = 'Frozen encoders in the bubbles of two devices against not filled, data parallel and PyTorch';

const batch = 32;
const pixart = {
	type: 'PixArtTransformer2DModel',
	sample_size: 16,
	in_channels: 4,
	out_channels: 4,
	num_attention_heads: 2,
	attention_head_dim: 64,
	num_layers: 4,
	patch_size: 2,
	cross_attention_dim: 128,
	caption_channels: 96,
};
const blocks = {
	block_out_channels: [16, 40],
	down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
	layers_per_block: 1,
	attention_head_dim: 2,
	cross_attention_dim: 96,
	norm_num_groups: 8,
};
const unet = { ...blocks, up_block_types: ['CrossAttnUpBlock2D', 'UpBlock2D'] };
const control = { ...blocks, conditioning_embedding_out_channels: [16, 32] };

const workloads = {
	sd: { open: () => denoiserJob(pixart, batch), model: pixart },
	controlnet: { open: () => controlNetJob(unet, control, batch), model: { unet, control } },
};

const kinds = (microBatches) => ({
	filled: { microBatches, parallel: { pipeline_stages: 2 }, fill: true },
	unfilled: { microBatches, parallel: { pipeline_stages: 2 }, fill: false },
	gpipe: { microBatches, parallel: { pipeline_stages: 2, pipeline_schedule: 'gpipe' }, fill: false },
	data_parallel: { microBatches: 1, parallel: { data_parallel: 2 }, fill: false },
});

export async function run({ quick, log, args }) {
	const rounds = quick ? 8 : 30;
	const only = args.find((a) => a.startsWith('--only='))?.slice(7);
	const rows = [];
	const errors = [];
	const memory = [];
	for (const [name, workload] of Object.entries(workloads)) {
		if (only && only !== name) continue;
		const job = await workload.open();
		for (const microBatches of [2, 4]) {
			log(`${name}, ${microBatches} micro-batches: measuring layers`);
			const profile = await correctedProfile(job, microBatches, await measureJob(job, microBatches));
			const opened = [];
			for (const [kind, options] of Object.entries(kinds(microBatches))) opened.push([kind, await openFillRun(job, profile, options)]);
			const peers = await openPeers(name, workload, microBatches, opened[0][1].planned.plan, log);
			const runs = [...opened, ...peers];
			const ms = new Map(runs.map(([kind]) => [kind, []]));
			const losses = new Map();
			for (let round = 0; round < rounds + 2; round++) {
				// Who comes after a peer finds caches and cores as that left them: everyone does in turn.
				for (let i = 0; i < runs.length; i++) {
					const [kind, each] = runs[(round + i) % runs.length];
					const step = await each.next();
					losses.set(kind, step.loss);
					if (round >= 2) ms.get(kind).push(step.ms);
				}
			}
			const { traced, tracedMs, plainMs } = await traceByTurns(opened[0][1], quick ? 5 : 15);
			for (const [, each] of opened) memory.push(...(await memoryErrors(each.planned, (await each.next({ trace: true })).held)));
			const m = Object.fromEntries([...ms].map(([kind, all]) => [kind, median(all)]));
			const r = frozenOverTrained(profile, batch / microBatches);
			const b = 1 / microBatches;
			const ideal = (1 + b + r) / Math.max(1 + b, 1 + r);
			for (const [kind, { planned }] of opened)
				errors.push([`${name} M=${microBatches} ${kind}`, programMs(planned.compiled.program, planned), m[kind]]);
			rows.push({
				workload: name,
				micro_batches: microBatches,
				frozen_over_trained: significant(r, 3),
				filled_ms: significant(m.filled, 4),
				predicted_ms: significant(errors.at(-opened.length)[1], 4),
				unfilled_ms: significant(m.unfilled, 4),
				filled_over_unfilled: significant(m.unfilled / m.filled, 4),
				ideal: significant(ideal, 4),
				of_ideal: significant(m.unfilled / m.filled / ideal, 4),
				filled_over_gpipe: significant(m.gpipe / m.filled, 4),
				filled_over_data_parallel: significant(m.data_parallel / m.filled, 4),
				...(m.ddp ? { vs_ddp: significant(m.ddp / m.filled, 4), vs_torch_pipelining: significant(m.pipelining / m.filled, 4) } : {}),
				bubble_share: significant(median(traced.map(({ timeline }) => bubbleRatio(timeline))), 3),
				bubble_predicted: significant(opened[0][1].planned.plan.bubbleRatio.filled, 3),
				traced_over_untraced: significant(tracedMs / plainMs, 4),
			});
			log(
				`  ${[...Object.entries(m)].map(([kind, value]) => `${kind} ${value.toFixed(1)}`).join(', ')} ms; last losses ${[...losses.values()].map((l) => l.toFixed(5)).join(' ')}`,
			);
			for (const [, each] of runs) await each.close();
		}
		await job.close();
	}
	for (const [what, predicted, measured] of errors) log(`${what}: predicted ${predicted.toFixed(1)}, measured ${measured.toFixed(1)} ms`);
	const mean = (key) => {
		const values = rows.map((row) => row[key]).filter((v) => v !== undefined);
		return values.length > 0 ? { [key]: significant(geometricMean(values), 4) } : {};
	};
	return {
		rows,
		figures: {
			...mean('filled_over_unfilled'),
			...mean('of_ideal'),
			...mean('filled_over_gpipe'),
			...mean('filled_over_data_parallel'),
			...mean('vs_ddp'),
			...mean('vs_torch_pipelining'),
			...mean('traced_over_untraced'),
			memory_error: significant(median(memory), 3),
			prediction_error: significant(median(errors.map(([, predicted, measured]) => Math.abs(predicted - measured) / measured)), 3),
			bubble_share: significant(median(rows.map((row) => row.bubble_share)), 3),
		},
	};
}

/** The profile as a few traced steps of the unfilled pipeline correct it: what a run with `parallel.replan_after` plans from. */
async function correctedProfile(job, microBatches, profile) {
	const run = await openFillRun(job, profile, kinds(microBatches).unfilled);
	for (let i = 0; i < 3; i++) await run.next();
	const timelines = [];
	for (let i = 0; i < 7; i++) {
		const { timeline, ms } = await run.next({ trace: true });
		timelines.push({ ...timeline, stepMs: ms });
	}
	await run.close();
	return correctProfile(profile, run.planned.plan, timelines);
}

async function openPeers(name, { model }, microBatches, plan, log) {
	if (!process.env.DIFFUSIONPIPE_PYTHON) return [];
	const { openTorchFill } = await import('./lib/fill-peer.mjs');
	const cut = plan.stages[1].layers[0];
	const common = { workload: name, model, batch, microBatches, cut };
	const peers = [];
	try {
		for (const mode of ['ddp', 'pipelining']) peers.push([mode, await openTorchFill({ ...common, mode })]);
		return peers;
	} catch (error) {
		for (const [, peer] of peers) await peer.close();
		log(`no PyTorch peer: ${error.message}`);
		return [];
	}
}
