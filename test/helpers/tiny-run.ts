/** @file A training run small enough for tests: a few generated images, a DiT of a few thousand parameters. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';

/** A temporary folder with a data set of `count` 8 x 8 pictures in two classes. Remove it with `remove`. */
export async function tinyData(count = 24): Promise<{ root: string; data: string; remove: () => Promise<void> }> {
	const root = await mkdtemp(join(tmpdir(), 'tiny-run-'));
	const data = join(root, 'images');
	for (let i = 0; i < count; i++) {
		const folder = join(data, i % 2 === 0 ? 'bright' : 'dark');
		await mkdir(folder, { recursive: true });
		const pixels = Uint8Array.from({ length: 64 }, (_, k) => (i % 2 === 0 ? 160 : 20) + ((k * (i + 3)) % 64));
		await sharp(pixels, { raw: { width: 8, height: 8, channels: 1 } })
			.png()
			.toFile(join(folder, `${i}.png`));
	}
	return { root, data, remove: () => rm(root, { recursive: true, force: true }) };
}

/** Raw config of a tiny run; `over` replaces whole keys of tables. */
export function tinyConfig(data: string, outputDir: string, over: Record<string, Record<string, unknown>> = {}): Record<string, unknown> {
	const base: Record<string, Record<string, unknown>> = {
		model: {
			type: 'DiTTransformer2DModel',
			num_attention_heads: 2,
			attention_head_dim: 8,
			num_layers: 3,
			patch_size: 2,
			sample_size: 8,
			in_channels: 1,
			out_channels: 1,
			num_embeds_ada_norm: 2,
		},
		scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
		data: { type: 'folder', path: data, height: 8, width: 8, channels: 1 },
		train: { max_steps: 12, batch_size: 8, gradient_accumulation_steps: 2, ema_decay: 0.99, flip: true },
		optimizer: { lr: 5e-3, warmup_steps: 3, lr_scheduler: 'cosine' },
		parallel: { pipeline_stages: 2, partition_method: 'manual', partition_split: [3] },
		checkpoint: { every_steps: 5, keep_last: 2 },
		sample: { enabled: false },
	};
	const merged = Object.fromEntries(Object.entries(base).map(([name, table]) => [name, { ...table, ...over[name] }]));
	return { output_dir: outputDir, seed: 7, ...over, ...merged };
}

/** Losses by step from a run's metrics. */
export async function readLosses(outputDir: string): Promise<Map<number, number>> {
	const text = await readFile(join(outputDir, 'metrics.jsonl'), 'utf8');
	return new Map(
		text
			.trim()
			.split('\n')
			.map((line) => JSON.parse(line) as { step: number; loss: number })
			.map(({ step, loss }) => [step, loss]),
	);
}
