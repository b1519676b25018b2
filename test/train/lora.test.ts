import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createPipeline, sampleToFile, trainingSamples } from '../../src/generate/index.ts';
import { readLora } from '../../src/io/lora-file.ts';
import { readSafetensors } from '../../src/io/safetensors.ts';
import { readTrainConfig } from '../../src/train/config.ts';
import { trainModel } from '../../src/train/trainer.ts';
import { readLosses, tinyConfig, tinyData } from '../helpers/tiny-run.ts';

let tiny: Awaited<ReturnType<typeof tinyData>>;
const folder = (name: string) => join(tiny.root, name);
const config = (name: string, over: Record<string, Record<string, unknown>> = {}) =>
	readTrainConfig(tinyConfig(tiny.data, folder(name), { log: { tensorboard: false }, ...over }));
const weightsFile = join('transformer', 'diffusion_pytorch_model.safetensors');
const lora = { rank: 2, alpha: 8, target_modules: ['to_q', 'to_v', 'ff.net.0.proj'] };
const adapting = (over: Record<string, Record<string, unknown>> = {}) => ({
	model: { pretrained: folder('base') },
	lora,
	train: { max_steps: 6, flip: false },
	checkpoint: { every_steps: 3 },
	...over,
});

beforeAll(async () => {
	tiny = await tinyData();
	await trainModel(config('base', { train: { max_steps: 4 }, sample: { enabled: false } }));
});
afterAll(() => tiny.remove());

it('begins at the loss of the model it adapts, and ends with that model’s file untouched and a LoRA beside it', async () => {
	await trainModel(config('whole', { ...adapting(), lora: {} }));
	const result = await trainModel(config('adapted', adapting({ sample: { enabled: true, steps: 2, per_label: 1 } })), {
		samples: trainingSamples,
	});
	const [whole, adapted] = [await readLosses(folder('whole')), await readLosses(folder('adapted'))];
	expect(adapted.get(1)).toBe(whole.get(1));
	expect(adapted.get(6)).not.toBe(whole.get(6));
	const [base, copy] = await Promise.all(['base', 'adapted'].map((run) => readFile(join(folder(run), 'pipeline', weightsFile))));
	expect(copy!.equals(base!)).toBe(true);
	const { tensors } = await readSafetensors(join(result.pipeline!, 'pytorch_lora_weights.safetensors'));
	const first = 'transformer.transformer_blocks.0';
	expect([...tensors.keys()].filter((name) => name.startsWith(first)).sort()).toEqual(
		['attn1.to_q', 'attn1.to_v', 'ff.net.0.proj'].flatMap((m) => [`${first}.${m}.lora_A.weight`, `${first}.${m}.lora_B.weight`]),
	);
	expect(tensors.get(`${first}.ff.net.0.proj.lora_B.weight`)!.shape).toEqual([64, 2]);
	const { modules } = await readLora(result.pipeline!, 'transformer');
	expect(modules.get('transformer_blocks.1.attn1.to_v')).toMatchObject({ scale: 4 });
	expect(modules.get('transformer_blocks.1.attn1.to_v')!.b.data.some((v) => v !== 0)).toBe(true);
});

it('resumes to the same bits, and on one device within rounding', async () => {
	const controller = new AbortController();
	await trainModel(config('stopped', adapting()), {
		signal: controller.signal,
		onEvent: (e) => {
			if (e.kind === 'step' && e.step === 4) controller.abort();
		},
	});
	await trainModel(config('stopped', adapting()), { resume: true });
	const adapted = await readLosses(folder('adapted'));
	expect([...(await readLosses(folder('stopped')))]).toEqual([...adapted]);
	await trainModel(config('one', adapting({ parallel: { pipeline_stages: 1, partition_split: [] } })));
	for (const [step, loss] of await readLosses(folder('one'))) expect(Math.abs(loss / adapted.get(step)! - 1)).toBeLessThan(1e-4);
});

it('samples the adapted model from its run, and from its base with the LoRA named', async () => {
	const draw = async (from: string, options: { lora?: readonly string[]; loraScale?: number } = {}) => {
		const pipeline = await createPipeline(folder(from), options);
		try {
			return (await pipeline.generate({ labels: [0, 1], steps: 2 })).images;
		} finally {
			await pipeline.close();
		}
	};
	const [base, own, named] = [await draw('base'), await draw('adapted'), await draw('base', { lora: [folder('adapted')] })];
	expect(named).toEqual(own);
	expect(own).not.toEqual(base);
	expect(await draw('adapted', { loraScale: 0 })).toEqual(base);
	// The merged weights are the trained graph: both draw the same but for rounding.
	const drawn = join(tiny.root, 'adapted.png');
	await sampleToFile({ folder: folder('adapted'), labels: [0, 1], steps: 2, perLabel: 1, output: drawn });
	expect((await readFile(drawn)).length).toBeGreaterThan(100);
	await expect(draw('base', { lora: [folder('base')] })).rejects.toThrow(/holds no LoRA/);
});

it('refuses a LoRA of nothing, of another class, and modules that there are not, before any work', async () => {
	await expect(trainModel(config('x1', { lora }))).rejects.toThrow(/lora.rank: there is no model to adapt[\s\S]*model.pretrained/);
	await expect(trainModel(config('x2', adapting({ lora: { rank: 2, target_modules: ['to_x'] } })))).rejects.toThrow(
		/lora.target_modules: no projection of the model is called to_x/,
	);
	await expect(
		trainModel(config('x3', adapting({ model: { pretrained: folder('base'), type: 'PixArtTransformer2DModel' } }))),
	).rejects.toThrow(/model.pretrained: is of another class[\s\S]*DiTTransformer2DModel/);
	expect(() => config('x4', { lora: { rank: 2, target_module: ['to_q'] } })).toThrow(/lora.target_module/);
});
