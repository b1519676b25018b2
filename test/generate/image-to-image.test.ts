/** @file Images changed rather than made: where in the schedule they are taken up, and what is left of them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { randomStream } from '../../src/core/random.ts';
import { type Tensor, toNumbers } from '../../src/core/tensor.ts';
import { createPipeline, type GenerateOptions } from '../../src/generate/index.ts';
import { encodePng } from '../../src/io/png.ts';
import { autoencoderKLDecoderChain, autoencoderKLEncoderChain, readAutoencoderKLConfig } from '../../src/models/autoencoder-kl.ts';
import { relativeDifference } from '../helpers/fixture.ts';
import type { Recording } from '../helpers/recorded-forward.ts';
import { runChain } from '../helpers/run-chain.ts';
import { type RecipeName, readPart, tinyPipelines } from '../helpers/tiny-pipelines.ts';

const recording = vi.hoisted((): Recording => ({ runs: [], open: 0, mostOpen: 0 }));
vi.mock('../../src/engine/local/forward.ts', async (original) => {
	const { recordForward } = await import('../helpers/recorded-forward.ts');
	return recordForward(await original<typeof import('../../src/engine/local/forward.ts')>(), recording);
});

const [height, width] = [16, 24];
const pixels = Uint8Array.from({ length: height * width * 3 }, (_, i) => (i * 7 + Math.floor(i / 72) * 31) % 256);
let root = '';
let image = '';
let folder: ReturnType<typeof tinyPipelines>;
beforeAll(async () => {
	root = mkdtempSync(join(tmpdir(), 'image-to-image-'));
	folder = tinyPipelines(root);
	image = join(root, 'start.png');
	await writeFile(image, encodePng(pixels, width, height, 3));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => {
	recording.runs.length = 0;
});

async function draw(name: RecipeName, options: GenerateOptions, devices = 1) {
	const pipeline = await createPipeline(await folder(name), { threads: 1, devices });
	try {
		return await pipeline.generate({ prompts: ['ab'], image, height, width, seed: 3, ...options });
	} finally {
		await pipeline.close();
	}
}

/** Pixels as the encoder takes them: [1, 3, H, W] in [-1, 1]. */
const start = (): Tensor<'float32'> => ({
	dtype: 'float32',
	shape: [1, 3, height, width],
	data: Float32Array.from({ length: pixels.length }, (_, i) => {
		const [c, place] = [Math.floor(i / (height * width)), i % (height * width)];
		return pixels[3 * place + c]! / 127.5 - 1;
	}),
});

/** The mean that the folder's autoencoder gives for the picture, and the picture it makes of that. */
async function reconstruction(name: RecipeName): Promise<{ mean: Float32Array; pictures: Float32Array; config: Record<string, unknown> }> {
	const { config, weights } = await readPart(join(await folder(name), 'vae'));
	const vae = readAutoencoderKLConfig(config);
	const mean = (await runChain({ ...autoencoderKLEncoderChain(vae, { height, width }), outputs: ['mean'] }, weights, { x: start() })).get(
		'mean',
	)!;
	const decoded = await runChain(autoencoderKLDecoderChain(vae, { height: height / 2, width: width / 2 }), weights, { z: mean });
	const pictures = (decoded.get('sample')!.data as Float32Array).map((v) => Math.min(1, Math.max(-1, v)));
	return { mean: mean.data as Float32Array, pictures, config: { ...vae } };
}

const denoiserRuns = () => recording.runs.filter(({ chain }) => /UNet|Transformer/.test(chain));

describe.each(['sd', 'sdPndm', 'sdAncestral', 'sdxl', 'pixart', 'sd3', 'flux'] as const)('%s', (name) => {
	const flow = name === 'sd3' || name === 'flux';

	it('gives the picture back at a strength of 0, without running any other model', async () => {
		const { images, shape } = await draw(name, { strength: 0 });
		expect(shape).toEqual([1, 3, height, width]);
		expect(relativeDifference(images, (await reconstruction(name)).pictures)).toBeLessThan(1e-4);
		expect(recording.runs.map((run) => run.chain)).toEqual(['AutoencoderKL.encoder', 'AutoencoderKL.decoder']);
	});

	it('takes the last steps alone', async () => {
		const { images } = await draw(name, { strength: 0.25, steps: 10 });
		expect(denoiserRuns()).toHaveLength(flow ? 3 : 2);
		expect(images.every(Number.isFinite)).toBe(true);
	});

	it('stays near the picture when little is given up', async () => {
		const { mean, config } = await reconstruction(name);
		const { scaling_factor: scale } = config as { scaling_factor: number };
		/** Root mean square of what the latents moved by, on the denoiser's scale, where noise has size 1. */
		const moved = async (options: GenerateOptions) => {
			recording.runs.length = 0;
			await draw(name, { ...options, guidanceScale: 1 });
			const z = recording.runs.at(-1)!.inputs.z!.data as Float32Array;
			return Math.sqrt(z.reduce((sum, v, i) => sum + ((v - mean[i]!) * scale) ** 2, 0) / z.length);
		};
		const near = await moved({ strength: 0.005, steps: 200 });
		expect(denoiserRuns().length).toBeGreaterThan(0);
		expect(near).toBeGreaterThan(0);
		expect(near).toBeLessThan(0.2);
		expect(await moved({ strength: 1, steps: 4 })).toBeGreaterThan(3 * near);
	});
});

describe('the first latents', () => {
	it('are the scaled mean with the noise of their step (DDIM)', async () => {
		await draw('sd', { strength: 0.5, steps: 4, guidanceScale: 1 });
		const [first] = denoiserRuns();
		// Leading timesteps with an offset: 751, 501, 251, 1.
		expect(toNumbers(first!.inputs.timestep!)).toEqual([251]);
		let bar = 1;
		for (let t = 0; t <= 251; t++) bar *= 1 - (Math.sqrt(0.00085) + ((Math.sqrt(0.012) - Math.sqrt(0.00085)) * t) / 999) ** 2;
		const { mean } = await reconstruction('sd');
		const noise = randomStream(3, 'sample.noise').normals(new Float32Array(mean.length), 0);
		const wanted = mean.map((m, i) => Math.sqrt(bar) * 0.18215 * m + Math.sqrt(1 - bar) * noise[i]!);
		expect(relativeDifference(first!.inputs.sample!.data as Float32Array, wanted)).toBeLessThan(2e-5);
	});

	it('are shifted, scaled and mixed with noise (flow)', async () => {
		await draw('sd3', { strength: 0.5, steps: 4, guidanceScale: 1 });
		const [first] = denoiserRuns();
		const sigma = toNumbers(first!.inputs.timestep!)[0]! / 1000;
		const { mean } = await reconstruction('sd3');
		const noise = randomStream(3, 'sample.noise').normals(new Float32Array(mean.length), 0);
		const wanted = mean.map((m, i) => (1 - sigma) * (m - 0.0609) * 1.5305 + sigma * noise[i]!);
		expect(relativeDifference(first!.inputs.hidden_states!.data as Float32Array, wanted)).toBeLessThan(2e-5);
	});
});

it('changes one picture for several prompts, on several devices alike', async () => {
	const prompts = ['ab', 'cd'];
	const one = await draw('sd', { prompts, strength: 0.6, steps: 5 });
	expect(one.shape).toEqual([2, 3, height, width]);
	expect(relativeDifference((await draw('sd', { prompts, strength: 0.6, steps: 5 }, 2)).images, one.images)).toBeLessThan(1e-4);
});
