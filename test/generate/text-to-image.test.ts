/** @file Every family of text pipelines from folder to images: right shapes, the same seed the same image, rows independent of each other and of devices. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPipeline, type GenerateOptions } from '../../src/generate/index.ts';
import { relativeDifference } from '../helpers/fixture.ts';
import { type RecipeName, writeTinyPipeline } from '../helpers/tiny-pipelines.ts';

let root = '';
beforeAll(() => {
	root = mkdtempSync(join(tmpdir(), 'pipelines-'));
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

const families: readonly RecipeName[] = ['sd', 'sdPndm', 'sdAncestral', 'sdxl', 'pixart', 'pixartSized', 'sd3', 'sd3WithoutT5', 'flux'];
const size = { height: 16, width: 24 };

describe.each(families)('%s', (name) => {
	let folder = '';
	beforeAll(async () => {
		folder = await writeTinyPipeline(join(root, name), name);
	});

	async function draw(options: GenerateOptions, devices = 1) {
		const pipeline = await createPipeline(folder, { devices, threads: 1 });
		try {
			return await pipeline.generate({ steps: 3, seed: 5, ...size, ...options });
		} finally {
			await pipeline.close();
		}
	}

	it('draws what each prompt says, whatever is drawn beside it', async () => {
		const prompts = ['a red fox', 'two blue boats', 'a red fox'];
		const all = await draw({ prompts });
		expect(all.shape).toEqual([3, 3, 16, 24]);
		expect(all.images.length).toBe(3 * 3 * 16 * 24);
		expect(all.images.every((v) => Number.isFinite(v) && Math.abs(v) <= 1)).toBe(true);
		const third = all.images.length / 3;
		const [fox, boats, other] = [0, 1, 2].map((i) => all.images.subarray(i * third, (i + 1) * third)) as [
			Float32Array,
			Float32Array,
			Float32Array,
		];
		expect(new Set(fox).size).toBeGreaterThan(100);
		// The same noise with another text; the same text with other noise.
		expect(relativeDifference(fox, boats)).toBeGreaterThan(1e-3);
		expect(relativeDifference(fox, other)).toBeGreaterThan(0.02);

		expect(relativeDifference((await draw({ prompts: ['a red fox'] })).images, fox)).toBeLessThan(1e-4);
		expect(relativeDifference((await draw({ prompts: ['two blue boats'] })).images, boats)).toBeLessThan(1e-4);
		expect(relativeDifference((await draw({ prompts }, 2)).images, all.images)).toBeLessThan(1e-4);
	});
});
