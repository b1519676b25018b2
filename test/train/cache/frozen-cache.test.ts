import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { readModelFolder, writeModelFolder } from '../../../src/io/model-folder.ts';
import { readTrainConfig } from '../../../src/train/config.ts';
import { openFrozenText, openFrozenVae } from '../../../src/train/frozen.ts';
import { trainModel } from '../../../src/train/trainer.ts';
import { readLosses } from '../../helpers/tiny-run.ts';

const root = mkdtempSync(join(tmpdir(), 'frozen-cache-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const asset = (name: string) => fileURLToPath(new URL(`../../../assets/${name}`, import.meta.url));
const options = { devices: 1, batch: 2, threads: 1, disk: { dir: join(root, 'cache'), dtype: 'float32' as const } };
const pictures = Float32Array.from({ length: 3 * 3 * 16 * 16 }, (_, i) => Math.sin(i / 7));

/** Latents by a freshly opened autoencoder, and what its cache was asked for. */
async function latents(folder: string, names: readonly string[], data = pictures) {
	const vae = await openFrozenVae(folder, { height: 16, width: 16 }, 0, options);
	try {
		return { latents: await vae.encode(data, names, 1), counts: vae.cached() };
	} finally {
		await vae.close();
	}
}

it('knows a picture by what is in it, whatever its name, and a part by its weights', async () => {
	const cold = await latents(asset('emoji-vae'), ['a', 'b', 'c']);
	expect(cold.counts).toEqual({ read: 0, computed: 3, damaged: 0 });
	const warm = await latents(asset('emoji-vae'), ['x', 'y', 'z']);
	expect(warm.counts).toEqual({ read: 3, computed: 0, damaged: 0 });
	expect(warm.latents).toEqual(cold.latents);
	const one = pictures.slice();
	one[0]! += 0.5;
	expect((await latents(asset('emoji-vae'), ['a', 'b', 'c'], one)).counts).toEqual({ read: 2, computed: 1, damaged: 0 });

	const { config, weights } = await readModelFolder(asset('emoji-vae'));
	const tensors = await Promise.all(weights.names.map(async (name) => ({ name, ...(await weights.read(name)) })));
	await weights.close();
	tensors[0]!.data[0] = (tensors[0]!.data[0] as number) + 1;
	await writeModelFolder(join(root, 'other-vae'), config, tensors);
	expect((await latents(join(root, 'other-vae'), ['a', 'b', 'c'])).counts).toMatchObject({ read: 0, computed: 3 });
});

it('keeps states and projections of texts', async () => {
	const encode = async () => {
		const text = await openFrozenText(asset('emoji-clip/text_encoder'), asset('emoji-clip/tokenizer'), options);
		try {
			return { states: await text.encode(['lemon', 'red apple', 'lemon', '']), counts: text.cached() };
		} finally {
			await text.close();
		}
	};
	const [cold, warm] = [await encode(), await encode()];
	expect(cold.counts).toEqual({ read: 0, computed: 3, damaged: 0 });
	expect(warm.counts).toEqual({ read: 3, computed: 0, damaged: 0 });
	expect(warm.states).toEqual(cold.states);
});

it('trains to the same losses with a cold cache, with a warm one and with none, and says what an epoch took', async () => {
	const run = async (name: string, frozen: Record<string, unknown>) => {
		const folder = join(root, name);
		const config = readTrainConfig({
			output_dir: folder,
			model: {
				...{ type: 'SD3Transformer2DModel', sample_size: 8, patch_size: 4, in_channels: 4, out_channels: 4, num_layers: 1 },
				...{ num_attention_heads: 2, attention_head_dim: 8, joint_attention_dim: 96, caption_projection_dim: 16 },
				...{ pooled_projection_dim: 64, pos_embed_max_size: 2 },
			},
			scheduler: { type: 'FlowMatchEulerDiscreteScheduler' },
			data: { type: 'emoji', categories: ['Symbols'], size: 32 },
			vae: { path: 'assets/emoji-vae' },
			text_encoder: { path: 'assets/emoji-clip/text_encoder', tokenizer: 'assets/emoji-clip/tokenizer' },
			train: { max_steps: 4, batch_size: 64, flip: true },
			sample: { enabled: false },
			log: { tensorboard: false },
			frozen,
		});
		const notes: string[] = [];
		await trainModel(config, { onEvent: (e) => e.kind === 'note' && notes.push(e.text) });
		return { losses: [...(await readLosses(folder))], notes: notes.filter((text) => /rows from disk|of the first epoch/.test(text)) };
	};
	const disk = { cache: 'disk', cache_dir: join(root, 'runs') };
	const [none, cold, warm] = [await run('none', {}), await run('cold', disk), await run('warm', disk)];
	expect(cold.losses).toEqual(none.losses);
	expect(warm.losses).toEqual(none.losses);
	expect(none.notes).toEqual([]);
	expect(cold.notes[0]).toMatch(/^vae: 0 rows from disk, \d+ computed$/);
	expect(warm.notes.slice(0, 2).map((text) => text.replace(/[1-9]\d*/, 'n'))).toEqual([
		'vae: n rows from disk, 0 computed',
		'text_encoder: n rows from disk, 0 computed',
	]);
	expect(warm.notes[2]).toMatch(/^frozen parts took [\d.]+ s of the first epoch$/);
}, 120_000);
