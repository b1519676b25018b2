/** @file ControlNets trained on images of several sizes, and what is known of their training beforehand: dry runs and jobs to profile. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { traceChain } from '../../../src/nn/chain.ts';
import { trainingJob } from '../../../src/train/job-chains.ts';
import { trainModel } from '../../../src/train/trainer.ts';
import { runCli } from '../../cli/context.ts';
import { side, type TinyControl, tinyControl } from '../../helpers/tiny-control.ts';

let tiny: TinyControl;
beforeAll(async () => {
	const wide = [24, side] as const;
	tiny = await tinyControl([...new Array(4).fill([side, side]), ...new Array(4).fill(wide)]);
});
afterAll(() => tiny.remove());

const none = { enabled: false };

/** The keys of a model folder's `config.json`. */
function readConfig(folder: string): Record<string, unknown> {
	const { _class_name: _, ...config } = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
	return config;
}

it('trains on buckets of sizes, filled or not, to the same losses', async () => {
	const losses = async (name: string, cache: string) => {
		const over = { data: { buckets: [[24, side]] }, frozen: { cache }, sample: none, eval: { every_steps: 0 } };
		await trainModel(tiny.configOf(name, over));
		return tiny.lossesOf(name).train;
	};
	const [inline, fill] = [await losses('inline', 'inline'), await losses('fill', 'fill')];
	expect(inline).toHaveLength(4);
	fill.forEach((loss, i) => {
		expect(Math.abs(loss / inline[i]! - 1)).toBeLessThan(2e-5);
	});
}, 240_000);

it('controls a U-Net of pixels, from a run: without an autoencoder the locked encoder is fed the pictures a step early', async () => {
	const unet = tiny.configOf('unet', {
		model: {
			...readConfig(join(tiny.pipeline, 'unet')),
			type: 'UNet2DConditionModel',
			...{ pretrained: undefined, conditioning_embedding_out_channels: undefined },
			...{ in_channels: 3, out_channels: 3, sample_size: side },
		},
		text_encoder: { path: join(tiny.pipeline, 'text_encoder'), tokenizer: join(tiny.pipeline, 'tokenizer') },
		parallel: { pipeline_stages: 1, partition_method: 'time', partition_split: undefined },
		...{ train: { max_steps: 1 }, sample: none, eval: { every_steps: 0 } },
	});
	await trainModel(unet);
	const losses = async (name: string, cache: string) => {
		const model = { pretrained: unet.output_dir, conditioning_embedding_out_channels: [8] };
		await trainModel(tiny.configOf(name, { model, frozen: { cache }, train: { max_steps: 2 }, sample: none, eval: { every_steps: 0 } }));
		return tiny.lossesOf(name).train;
	};
	const [inline, fill] = [await losses('pixels-inline', 'inline'), await losses('pixels-fill', 'fill')];
	expect(inline).toHaveLength(2);
	fill.forEach((loss, i) => {
		expect(Math.abs(loss / inline[i]! - 1)).toBeLessThan(2e-5);
	});
}, 240_000);

it('is planned without training: with the locked encoder in the chain, or among the frozen parts', async () => {
	const file = join(tiny.root, 'control.toml');
	const dry = async (cache: string) => {
		writeFileSync(file, stringify(tiny.rawOf('dry', { frozen: { cache } })));
		const { code, out, err } = await runCli(['train', file, '--dry-run', '--json']);
		expect([code, err]).toEqual([0, expect.stringContaining('training ControlNetModel on folder')]);
		return JSON.parse(out) as { config: { vae: { path: string } }; plan: { parameters: number; stages: { layers: string[] }[] } };
	};
	const [inline, fill] = [await dry('inline'), await dry('fill')];
	expect(inline.config.vae.path).toBe(join(tiny.pipeline, 'vae'));
	const layers = ({ plan }: typeof inline) => plan.stages.flatMap((stage) => stage.layers);
	expect(layers(inline)).toContain('unet.down_blocks.0.resnets.0');
	expect(layers(fill)).not.toContain('unet.down_blocks.0.resnets.0');
	expect(layers(fill)).toContain('unet.up_blocks.0.resnets.0');
}, 60_000);

it('is a job with three frozen components', async () => {
	const { backbones, frozen } = await trainingJob(tiny.configOf('job'), 'job');
	expect(frozen.map(({ name, after }) => [name, after])).toEqual([
		['vae', []],
		['text_encoder', []],
		['unet_encoder', ['vae', 'text_encoder']],
	]);
	const parameters = [...traceChain(backbones[0]!.chain, 1).parameters.values()];
	expect(parameters.filter((p) => p.trained).every((p) => !p.name.startsWith('unet.'))).toBe(true);
	expect(parameters.some((p) => p.name.startsWith('unet.up_blocks'))).toBe(true);
});
