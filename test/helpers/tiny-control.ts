/** @file ControlNet training small enough for tests: a tiny Stable Diffusion pipeline, and images with conditioning pictures beside them. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { readTrainConfig, type TrainConfig } from '../../src/train/config.ts';
import { tinyPipelines } from './tiny-pipelines.ts';

export type Tables = Record<string, Record<string, unknown>>;

export interface TinyControl {
	readonly root: string;
	readonly pipeline: string;
	/** Folder of images. */
	readonly data: string;
	/** The config of a run in the folder `name` below `root`; `over` replaces keys of tables, with undefined it takes them away. */
	rawOf(name: string, over?: Tables): Record<string, unknown>;
	configOf(name: string, over?: Tables): TrainConfig;
	/** Losses of the steps of a run, and of its held-out examples. */
	lossesOf(name: string): { train: number[]; heldOut: number[] };
	remove(): void;
}

/** Height and width of the images asked for, from which latents are half as large. */
export const side = 16;

/** Writes pipeline and images, [width, height] each. The caller removes them. */
export async function tinyControl(images: readonly (readonly [number, number])[] = new Array(8).fill([side, side])): Promise<TinyControl> {
	const root = mkdtempSync(join(tmpdir(), 'tiny-control-'));
	const pipeline = await tinyPipelines(root)('sd');
	const { _class_name: type, ...options } = JSON.parse(readFileSync(join(pipeline, 'scheduler', 'scheduler_config.json'), 'utf8'));
	const data = join(root, 'images');
	const lines: object[] = [];
	mkdirSync(join(data, 'edges'), { recursive: true });
	for (const [i, [width, height]] of images.entries()) {
		const write = (factor: number, file: string) =>
			sharp(
				Uint8Array.from({ length: width * height * 3 }, (_, k) => (k * (i + factor)) % 256),
				{ raw: { width, height, channels: 3 } },
			)
				.png()
				.toFile(join(data, file));
		await write(3, `${i}.png`);
		await write(5, `edges/${i}.png`);
		lines.push({ file_name: `${i}.png`, text: ['ab', 'cd', 'ef'][i % 3], conditioning_image_file_name: `edges/${i}.png` });
	}
	writeFileSync(join(data, 'metadata.jsonl'), lines.map((line) => JSON.stringify(line)).join('\n'));
	const base: Tables = {
		model: { type: 'ControlNetModel', pretrained: pipeline, conditioning_embedding_out_channels: [8, 16] },
		scheduler: { type, ...options },
		data: { type: 'folder', path: data, height: side, width: side },
		train: { max_steps: 4, batch_size: 4, gradient_accumulation_steps: 2, flip: true, ema_decay: 0.9 },
		optimizer: { lr: 1e-2 },
		parallel: { pipeline_stages: 2, partition_method: 'manual', partition_split: [12] },
		checkpoint: { every_steps: 2, keep_last: 0 },
		sample: { steps: 2, per_label: 1, guidance_scale: 2 },
		eval: { every_steps: 2, holdout: 2, quantiles: [0.2, 0.8], before_first_step: false },
		log: { tensorboard: false },
	};
	const rawOf = (name: string, over: Tables = {}) => {
		const given = (keys: Record<string, unknown>) => Object.fromEntries(Object.entries(keys).filter(([, value]) => value !== undefined));
		const merged = Object.fromEntries(Object.entries(base).map(([table, keys]) => [table, given({ ...keys, ...over[table] })]));
		return { output_dir: join(root, name), seed: 7, ...over, ...merged };
	};
	return {
		root,
		pipeline,
		data,
		rawOf,
		configOf: (name, over) => readTrainConfig(rawOf(name, over)),
		lossesOf(name) {
			const text = readFileSync(join(root, name, 'metrics.jsonl'), 'utf8');
			const parsed = text
				.trim()
				.split('\n')
				.map((line) => JSON.parse(line) as { loss?: number; eval_loss?: number });
			return {
				train: parsed.flatMap(({ loss }) => loss ?? []),
				heldOut: parsed.flatMap(({ eval_loss: loss }) => loss ?? []),
			};
		},
		remove: () => rmSync(root, { recursive: true, force: true }),
	};
}
