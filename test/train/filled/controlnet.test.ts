/** @file Training a ControlNet beside a locked U-Net: the same losses however its frozen parts and its own layers are laid over devices. */
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { sizeOf, type Tensor } from '../../../src/core/tensor.ts';
import { controlNetChain, readControlNetConfig } from '../../../src/models/controlnet.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../../src/models/unet-condition.ts';
import { traceChain } from '../../../src/nn/chain.ts';
import { readSessionConfig } from '../../../src/train/config.ts';
import { controlNetRun } from '../../../src/train/filled/controlnet.ts';
import { textPart, vaePart } from '../../../src/train/filled/parts.ts';
import { compileFilled, measureRun } from '../../../src/train/filled/plan.ts';
import { openFilledSession } from '../../../src/train/filled/session.ts';
import { initialValues } from '../../../src/train/parameters.ts';
import { hyperOf } from '../../../src/train/session.ts';
import { uniformStream } from '../../helpers/random.ts';

const asset = (name: string) => fileURLToPath(new URL(`../../../assets/${name}`, import.meta.url));
const batch = 4;
const encoder = {
	block_out_channels: [8, 16],
	down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
	layers_per_block: 1,
	attention_head_dim: 2,
	cross_attention_dim: 96,
	norm_num_groups: 4,
};

async function open() {
	const size = { height: 8, width: 8, tokens: 24 };
	const control = controlNetChain(readControlNetConfig({ ...encoder, conditioning_embedding_out_channels: [4, 8] }), size);
	const unet = unetConditionChain(readUNetConditionConfig({ ...encoder, up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'] }), {
		...size,
		residuals: 'maps',
	});
	const locked = traceChain(unet, 1).parameters;
	const [vae, text] = [
		await vaePart(asset('emoji-vae'), { height: 32, width: 32 }),
		await textPart(asset('emoji-clip/text_encoder'), false),
	];
	const run = controlNetRun(control, unet, [vae, text], async (name) => initialValues(locked.get(name)!, 9), batch);
	return { ...run, close: async () => void (await Promise.all([vae.close(), text.close()])) };
}

const configOf = (parallel: Record<string, unknown>, microBatches: number) =>
	readSessionConfig({
		train: { max_steps: 3, batch_size: batch, gradient_accumulation_steps: microBatches, ema_decay: 0 },
		optimizer: { lr: 1e-2 },
		parallel,
	});

it('gives one device’s losses on two stages, on two pipelines, filled and not filled', async () => {
	const run = await open();
	const random = uniformStream(3);
	const tensors = new Map<string, Tensor>();
	const feed = (key: string, shape: readonly number[]): Tensor => {
		const known = tensors.get(key);
		if (known) return known;
		const data = Float32Array.from({ length: sizeOf([batch, ...shape]) }, () => random());
		const made: Tensor = { dtype: 'float32', shape: [batch, ...shape], data };
		tensors.set(key, made);
		return made;
	};
	const ids: Tensor = { dtype: 'int64', shape: [batch, 24], data: BigInt64Array.from({ length: batch * 24 }, (_, i) => BigInt(i % 50)) };
	const trainFeeds = (step: number) =>
		Object.fromEntries(
			Object.entries(run.chain.inputs)
				.filter(([name]) => !run.given[name])
				.map(([name, { shape }]) => [name, feed(`${name} ${step}`, shape)]),
		);
	const aheadFeeds = (step: number) => {
		const feeds: Record<string, Tensor> = { 'text_encoder.input_ids': ids };
		for (const { name, chain, takes } of run.parts) {
			for (const [input, { shape, dtype }] of Object.entries(chain.inputs)) {
				if (takes[input] || dtype !== 'float32') continue;
				// The locked encoder sees the noise that the step itself will see.
				feeds[`${name}.${input}`] = feed(
					(run.early as readonly string[]).includes(input) ? `${input} ${step}` : `${name}.${input} ${step}`,
					shape,
				);
			}
		}
		return feeds;
	};
	// Where the frozen work runs depends on the times, what it gives does not: one profile serves all layouts.
	const profile = await measureRun(configOf({}, 2), run.chain, run, false);
	const losses = async (parallel: Record<string, unknown>, microBatches: number, fill: boolean) => {
		const config = configOf(parallel, microBatches);
		const session = await openFilledSession(run.chain, config, run, compileFilled(config, run.chain, run, profile, 2, { fill }), {
			average: false,
			seed: 4,
		});
		try {
			await session.begin(aheadFeeds(0));
			const found: number[] = [];
			for (let step = 0; step < 3; step++)
				found.push(
					(await session.step(trainFeeds(step), hyperOf(config, step).hyper, false, step < 2 ? aheadFeeds(step + 1) : undefined)).loss,
				);
			return found;
		} finally {
			await session.close();
		}
	};
	try {
		const alone = await losses({}, 1, false);
		expect(alone[2]).not.toBe(alone[0]);
		for (const [parallel, microBatches, fill] of [
			[{ pipeline_stages: 2 }, 2, true],
			[{ pipeline_stages: 2 }, 2, false],
			[{ data_parallel: 2 }, 1, true],
		] as const) {
			const found = await losses(parallel, microBatches, fill);
			found.forEach((loss, i) => {
				expect(Math.abs(loss / alone[i]! - 1)).toBeLessThan(2e-5);
			});
		}
	} finally {
		await run.close();
	}
}, 120_000);
