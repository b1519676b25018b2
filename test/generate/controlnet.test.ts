/** @file A ControlNet in front of its U-Net: the joined chain against both models run apart, the scale, and which rows take residuals. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Tensor } from '../../src/core/tensor.ts';
import { toNumbers } from '../../src/core/tensor.ts';
import { createPipeline, type GenerateOptions } from '../../src/generate/index.ts';
import { encodePng } from '../../src/io/png.ts';
import { controlNetChain, readControlNetConfig } from '../../src/models/controlnet.ts';
import { readUNetConditionConfig, unetConditionChain } from '../../src/models/unet-condition.ts';
import { relativeDifference } from '../helpers/fixture.ts';
import type { Recording } from '../helpers/recorded-forward.ts';
import { runChain } from '../helpers/run-chain.ts';
import { clipLength, readPart, tinyPipelines, writeTinyControlNet } from '../helpers/tiny-pipelines.ts';

const recording = vi.hoisted((): Recording => ({ runs: [], open: 0, mostOpen: 0 }));
vi.mock('../../src/engine/local/forward.ts', async (original) => {
	const { recordForward } = await import('../helpers/recorded-forward.ts');
	return recordForward(await original<typeof import('../../src/engine/local/forward.ts')>(), recording);
});

const [height, width] = [16, 24];
const pixels = Uint8Array.from({ length: height * width * 3 }, (_, i) => (i * 11) % 256);
let root = '';
let edges = '';
let pipeline = '';
let controlNet = '';
beforeAll(async () => {
	root = mkdtempSync(join(tmpdir(), 'controlnet-'));
	pipeline = await tinyPipelines(root)('sd');
	controlNet = await writeTinyControlNet(join(root, 'control'));
	edges = join(root, 'edges.png');
	await writeFile(edges, encodePng(pixels, width, height, 3));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => {
	recording.runs.length = 0;
});

async function draw(options: GenerateOptions, control: string | null = controlNet, folder = pipeline) {
	const opened = await createPipeline(folder, { threads: 1, ...(control === null ? {} : { controlNet: control }) });
	try {
		return await opened.generate({ prompts: ['ab'], height, width, seed: 3, steps: 2, ...options });
	} finally {
		await opened.close();
	}
}

const denoiserRuns = () => recording.runs.filter(({ chain }) => chain.startsWith('UNet'));

describe('a ControlNet', () => {
	it('adds to the U-Net what the two models give apart', async () => {
		await draw({ controlImage: edges, controlScale: 0.7 });
		const [{ inputs, outputs }] = denoiserRuns() as [(typeof recording.runs)[0]];
		expect(inputs.controlnet_cond!.shape).toEqual([2, 3, height, width]);
		const cond = toNumbers(inputs.controlnet_cond!);
		const wanted = Array.from({ length: pixels.length }, (_, i) => {
			const [c, place] = [Math.floor(i / (height * width)), i % (height * width)];
			return pixels[3 * place + c]! / 255;
		});
		expect(relativeDifference(cond, [...wanted, ...wanted])).toBeLessThan(1e-6);

		const size = { height: height / 2, width: width / 2, tokens: clipLength };
		const side = await readPart(controlNet);
		const residuals = await runChain(
			controlNetChain(readControlNetConfig(side.config), { ...size, conditioningScale: 0.7 }),
			side.weights,
			inputs,
		);
		const main = await readPart(join(pipeline, 'unet'));
		const unet = unetConditionChain(readUNetConditionConfig(main.config), { ...size, residuals: 'maps' });
		const apart = await runChain(unet, main.weights, { ...inputs, ...Object.fromEntries(residuals) });
		expect(relativeDifference(outputs.sample!.data as Float32Array, apart.get('sample')!.data as Float32Array)).toBeLessThan(2e-5);
	});

	it('changes nothing at a scale of 0, and more the higher it is', async () => {
		const without = (await draw({}, null)).images;
		const at = async (controlScale: number) => relativeDifference((await draw({ controlImage: edges, controlScale })).images, without);
		expect(await at(0)).toBeLessThan(1e-4);
		const [half, whole] = [await at(0.5), await at(1)];
		expect(half).toBeGreaterThan(1e-3);
		expect(whole).toBeGreaterThan(half);
	});

	it('with global_pool_conditions leaves the rows without the prompt alone', async () => {
		const pooled = await writeTinyControlNet(join(root, 'pooled'), { global_pool_conditions: true });
		await draw({ controlImage: edges, prompts: ['ab', 'cd'] }, pooled);
		const [{ inputs, outputs }] = denoiserRuns() as [(typeof recording.runs)[0]];
		expect(toNumbers(inputs.conditioning_scale!)).toEqual([1, 1, 0, 0]);
		recording.runs.length = 0;
		await draw({ prompts: ['ab', 'cd'] }, null);
		const [plain] = denoiserRuns() as [(typeof recording.runs)[0]];
		const halves = (t: Tensor | undefined) => {
			const data = t!.data as Float32Array;
			return [data.subarray(0, data.length / 2), data.subarray(data.length / 2)] as const;
		};
		const [[wanted, none], [plainWanted, plainNone]] = [halves(outputs.sample), halves(plain.outputs.sample)];
		expect(relativeDifference(none, plainNone)).toBeLessThan(2e-5);
		expect(relativeDifference(wanted, plainWanted)).toBeGreaterThan(1e-3);
	});

	it('may be a part of the folder', async () => {
		const whole = join(root, 'whole');
		cpSync(pipeline, whole, { recursive: true });
		cpSync(controlNet, join(whole, 'controlnet'), { recursive: true });
		const path = join(whole, 'model_index.json');
		const index = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
		index._class_name = 'StableDiffusionControlNetPipeline';
		index.controlnet = ['diffusers', 'ControlNetModel'];
		writeFileSync(path, JSON.stringify(index));
		const own = await draw({ controlImage: edges }, null, whole);
		expect(own.images).toEqual((await draw({ controlImage: edges })).images);
		await expect(draw({}, null, whole)).rejects.toThrow(/the ControlNet has no image[\s\S]*--control-image/);
		await expect(draw({ controlImage: edges }, controlNet, whole)).rejects.toThrow(/has a ControlNet of its own/);
	});

	it('is refused where it does not fit, before any work', async () => {
		const other = await writeTinyControlNet(join(root, 'other'), { cross_attention_dim: 20 });
		await expect(draw({ controlImage: edges }, other)).rejects.toThrow(
			/does not fit the U-Net[\s\S]*encoder_hidden_states \[12, 24\][\s\S]*\[12, 20\]/,
		);
		const deeper = await writeTinyControlNet(join(root, 'deeper'), { layers_per_block: 2 });
		await expect(draw({ controlImage: edges }, deeper)).rejects.toThrow(/does not fit the U-Net[\s\S]*residuals down_block/);
		await expect(draw({ controlImage: edges }, null)).rejects.toThrow(/no ControlNet for the image[\s\S]*--controlnet/);
		const pixart = await tinyPipelines(root)('pixart');
		await expect(draw({ controlImage: edges }, controlNet, pixart)).rejects.toThrow(
			/cannot be used with a ControlNet[\s\S]*PixArtTransformer2DModel/,
		);
		expect(recording.runs).toEqual([]);
	});
});
