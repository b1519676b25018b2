/** @file A DiT in training on the local engine, of any size: what several benches measure. */
import { createLocalEngine } from '../../dist/engine/local/engine.js';
import { ditChain, readDiTConfig } from '../../dist/models/dit.js';
import { traceChain } from '../../dist/nn/chain.js';
import { scheduleByName } from '../../dist/plan/schedules/index.js';
import { adamwGraph, adamwHyper, adamwHyperSize } from '../../dist/program/adamw.js';
import { lowerTraining } from '../../dist/program/lower.js';

/** Mean squared error of the network's output against the input `target`, as the chain's last layer and only output. */
export function withMeanSquareLoss(chain, targetShape) {
	const loss = {
		name: 'loss',
		path: '',
		build({ g }, live) {
			const error = g.sub(live.get('sample'), live.get('target'));
			const count = error.shape.reduce((n, d) => n * d, 1);
			live.set('loss', g.mul(g.reduceSumSquare(g.reshape(error, [1, count]), [1], false), 1 / count));
		},
	};
	const inputs = { ...chain.inputs, target: { dtype: 'float32', shape: targetShape } };
	return { ...chain, inputs, layers: [...chain.layers, loss], outputs: ['loss'] };
}

/** Normally distributed numbers, the same for the same seed (mulberry32 and Box-Muller): good enough to fill benches' tensors. */
export function normalNumbers(count, seed, scale = 1) {
	let state = seed >>> 0;
	const uniform = () => {
		state = (state + 0x6d2b79f5) >>> 0;
		let t = Math.imul(state ^ (state >>> 15), state | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return (((t ^ (t >>> 14)) >>> 0) + 1) / 4294967297;
	};
	return Float32Array.from({ length: count }, () => scale * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()));
}

/** Multiply-accumulates of one forward pass in the blocks, which the backward pass does twice over. */
export function ditMacs({ batch, tokens, width, layers }) {
	const rows = batch * tokens;
	return layers * (rows * width * width * 12 + 2 * rows * tokens * width);
}

/**
 * Builds and starts a training program. `shape`: batch (samples of the whole step), tokens, width, heads, layers, and optionally
 * in_channels (4), patch (2), classes (10). `layout`: cuts ([]), replicas (1), microBatches (1), schedule ('1f1b'), recompute.
 * `step()` resolves with the loss; `trace()` runs a step and resolves with its timeline.
 */
export async function startDiTTraining(shape, layout = {}) {
	const { batch, tokens, width, heads, layers, in_channels = 4, patch = 2, classes = 10 } = shape;
	const { cuts = [], replicas = 1, microBatches = 1, schedule = '1f1b', recompute, threads = 1 } = layout;
	const side = Math.sqrt(tokens) * patch;
	const config = readDiTConfig({
		num_attention_heads: heads,
		attention_head_dim: width / heads,
		num_layers: layers,
		in_channels,
		patch_size: patch,
		sample_size: side,
		num_embeds_ada_norm: classes,
	});
	const chain = withMeanSquareLoss(ditChain(config), [in_channels, side, side]);
	const microBatchSize = batch / replicas / microBatches;
	const compiled = lowerTraining(traceChain(chain, microBatchSize), {
		cuts,
		replicas,
		microBatches,
		microBatchSize,
		schedule: scheduleByName(schedule)({ stages: cuts.length + 1, microBatches }),
		moments: 2,
		hyperSize: adamwHyperSize,
		...(recompute ? { recompute } : {}),
	});
	const engine = await createLocalEngine(compiled, { update: adamwGraph(false), threads });
	const stages = cuts.length + 1;
	compiled.program.devices.forEach(({ device, banks }, k) => {
		const memory = engine.bank(device, banks[0].id, 'parameter');
		for (const p of compiled.banks[k % stages].parameters) {
			const count = p.shape.reduce((n, d) => n * d, 1);
			memory.set(normalNumbers(count, p.offset + 1, 0.02), p.offset);
		}
	});
	const image = [batch, in_channels, side, side];
	const pixels = image.reduce((n, d) => n * d, 1);
	const feeds = {
		hidden_states: { dtype: 'float32', shape: image, data: normalNumbers(pixels, 1) },
		target: { dtype: 'float32', shape: image, data: normalNumbers(pixels, 2) },
		timestep: { dtype: 'float32', shape: [batch], data: Float32Array.from({ length: batch }, (_, i) => (1000 * (i + 0.5)) / batch) },
		class_labels: { dtype: 'int64', shape: [batch], data: BigInt64Array.from({ length: batch }, (_, i) => BigInt(i % classes)) },
	};
	let count = 0;
	const run = (options) => {
		count++;
		const hyper = adamwHyper({
			lr: 1e-4,
			betas: [0.9, 0.999],
			eps: 1e-8,
			weightDecay: 0.01,
			step: count,
			maxGradNorm: Number.POSITIVE_INFINITY,
			emaDecay: 0,
		});
		return engine.run('iteration', { ...feeds, hyper: { dtype: 'float32', shape: [adamwHyperSize], data: hyper } }, options);
	};
	return {
		compiled,
		engine,
		async step() {
			const { fetched } = await run();
			const losses = fetched.get('loss').data;
			return losses.reduce((a, b) => a + b, 0) / losses.length;
		},
		async trace() {
			return (await run({ trace: true })).timeline;
		},
		close: () => engine.close(),
	};
}
