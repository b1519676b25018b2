/**
 * @file Losses of one training run on one device, on several layouts of devices, and in plain PyTorch.
 *
 * All layouts go the way `diffusionpipe train` goes: plan, lower, run; same seed, same data. PyTorch gets the same first weights and the
 * recorded noise, timesteps and labels (bench/torch/exactness.py). Warm-up, clipping, AdamW and label dropout are on. The layers that
 * diffusion transformers start at zero start at random here: else the first gradients vanish in most of the network.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { writeSafetensors } from '../dist/io/safetensors.js';
import { openLoader } from '../dist/train/data/loader.js';
import { initialValues } from '../dist/train/parameters.js';
import { learningRate } from '../dist/train/rates.js';
import { pythonPath } from './lib/peer.mjs';
import { significant } from './lib/stats.mjs';
import { openTraining } from './lib/training.mjs';

export const title = 'A training run on one device, on pipelines and replicas, and in PyTorch: do the losses agree?';

const batchSize = 32;
const layouts = [
	{ name: 'one device', microBatches: 1, parallel: {} },
	{ name: '2 stages, 1f1b', microBatches: 4, parallel: { pipeline_stages: 2, pipeline_schedule: '1f1b' } },
	{ name: '4 stages, gpipe', microBatches: 4, parallel: { pipeline_stages: 4, pipeline_schedule: 'gpipe' } },
	{ name: '2 replicas x 2 stages, 1f1b', microBatches: 4, parallel: { pipeline_stages: 2, data_parallel: 2, pipeline_schedule: '1f1b' } },
];

const configOf = ({ microBatches, parallel }, steps) => ({
	seed: 7,
	model: {
		type: 'DiTTransformer2DModel',
		num_attention_heads: 4,
		attention_head_dim: 16,
		num_layers: 4,
		patch_size: 7,
		sample_size: 28,
		in_channels: 1,
		out_channels: 1,
		num_embeds_ada_norm: 10,
	},
	scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
	data: { type: 'mnist' },
	objective: { label_dropout: 0.2 },
	train: { max_steps: steps, batch_size: batchSize, gradient_accumulation_steps: microBatches, gradient_clipping: 1, ema_decay: 0 },
	optimizer: { lr: 1e-3, weight_decay: 0.01, lr_scheduler: 'cosine', warmup_steps: Math.ceil(steps / 5) },
	parallel,
});

const nonZero = (p, seed) => initialValues(p.init.kind === 'zeros' ? { ...p, init: { kind: 'normal', std: 0.05 } } : p, seed);

async function batchesOf(config, steps) {
	const loader = await openLoader(config.data, { seed: config.seed, batchSize });
	try {
		const batches = [];
		for (let k = 0; k < steps; k++) batches.push(await loader.batchAt(k));
		return batches;
	} finally {
		await loader.close();
	}
}

/** Trains on one layout; `record(run)` is called before the first step and may return a function that gets each step's feeds. */
async function train(layout, batches, record = () => () => {}) {
	const run = await openTraining(configOf(layout, batches.length), { initial: nonZero });
	try {
		const note = record(run);
		const losses = [];
		const norms = [];
		for (const [k, batch] of batches.entries()) {
			const feeds = run.feeds(batch);
			note(feeds, k);
			const { loss, gradNorm } = await run.step(k, feeds);
			losses.push(loss);
			norms.push(gradNorm);
		}
		return { losses, norms, cuts: run.plan.cuts, devices: run.plan.compiled.program.devices.length };
	} finally {
		await run.close();
	}
}

/** What a run is fed, collected for bench/torch/exactness.py; `write(folder)` leaves it there. */
function recorder() {
	const keys = {
		x0: 'x0',
		noise: 'noise',
		timestep: 'timestep',
		signal: 'a',
		spread: 's',
		target_x0: 'cx',
		target_noise: 'cn',
		loss_weight: 'weight',
		class_labels: 'label',
	};
	const batches = [];
	let weights;
	let run;
	return {
		record(opened) {
			run = opened;
			weights = run.parameters.map(({ name, shape, views }) => ({ name, dtype: 'float32', shape, data: views('parameter')[0].slice() }));
			return (feeds, k) => {
				// The feeds' memory is used again by later steps.
				for (const [feed, key] of Object.entries(keys))
					batches.push({ name: `${k}.${key}`, ...feeds[feed], data: feeds[feed].data.slice() });
			};
		},
		droppedLabels: () =>
			batches
				.filter((t) => t.name.endsWith('.label'))
				.reduce((n, t) => n + t.data.filter((l) => l === BigInt(run.denoiser.labels.none)).length, 0),
		async write(folder, steps) {
			const { config, denoiser } = run;
			const { betas, eps, weight_decay } = config.optimizer;
			const lrs = Array.from({ length: steps }, (_, k) => learningRate(config, k));
			const settings = { lrs, betas, eps, weight_decay, max_grad_norm: config.train.gradient_clipping };
			await writeSafetensors(join(folder, 'weights.safetensors'), weights);
			await writeSafetensors(join(folder, 'batches.safetensors'), batches);
			await writeFile(join(folder, 'config.json'), JSON.stringify(denoiser.config));
			await writeFile(join(folder, 'train.json'), JSON.stringify(settings));
		},
	};
}

async function trainInTorch(python, recorded, steps) {
	const folder = await mkdtemp(join(tmpdir(), 'diffusionpipe-exactness-'));
	try {
		await recorded.write(folder, steps);
		const script = fileURLToPath(new URL('torch/exactness.py', import.meta.url));
		const { stdout } = await promisify(execFile)(python, [script, folder]);
		const { losses, grad_norms: norms } = JSON.parse(stdout);
		return { losses, norms };
	} finally {
		await rm(folder, { recursive: true, force: true });
	}
}

/** Largest |a - b| / |b| over the steps. */
const worst = (a, b) => Math.max(...b.map((wanted, k) => Math.abs(a[k] - wanted) / Math.abs(wanted)));

export async function run({ quick, log }) {
	const python = pythonPath();
	const steps = quick ? 12 : 50;
	const batches = await batchesOf(configOf(layouts[0], steps), steps);
	const recorded = recorder();
	const runs = [];
	for (const layout of layouts) {
		runs.push({ name: layout.name, ...layout, ...(await train(layout, batches, layout === layouts[0] ? recorded.record : undefined)) });
		log(`${layout.name}: ${steps} steps, loss ${runs.at(-1).losses[0]} to ${runs.at(-1).losses.at(-1)}`);
	}
	const torch = { name: 'PyTorch', ...(await trainInTorch(python, recorded, steps)) };
	log(`PyTorch: loss ${torch.losses[0]} to ${torch.losses.at(-1)}`);
	const one = runs[0];
	const rows = [...runs, torch].map((r) => ({
		layout: r.name,
		devices: r.devices,
		micro_batches: r.microBatches,
		stages_from_layer: r.cuts === undefined ? '' : [0, ...r.cuts].join(' '),
		first_loss: significant(r.losses[0], 7),
		last_loss: significant(r.losses.at(-1), 7),
		loss_vs_one_device: significant(worst(r.losses, one.losses), 3),
		loss_vs_torch: significant(worst(r.losses, torch.losses), 3),
		grad_norm_vs_one_device: significant(worst(r.norms, one.norms), 3),
		grad_norm_vs_torch: significant(worst(r.norms, torch.norms), 3),
	}));
	const most = (key) => Math.max(...rows.map((r) => r[key]));
	return {
		rows,
		figures: {
			loss_max_rel_diff: Math.max(most('loss_vs_one_device'), most('loss_vs_torch')),
			layouts_max_rel_diff: Math.max(...rows.slice(0, -1).map((r) => r.loss_vs_one_device)),
			grad_norm_max_rel_diff: Math.max(most('grad_norm_vs_one_device'), most('grad_norm_vs_torch')),
			steps,
			steps_clipped: one.norms.filter((n) => n > 1).length,
			labels_dropped: recorded.droppedLabels(),
		},
	};
}
