/** @file From a folder to a picture file, for prompts and for labels, as the command does it. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPipeline, type SampleEvent, sampleToFile } from '../../src/generate/index.ts';
import { relativeDifference } from '../helpers/fixture.ts';
import { tinyPipelines } from '../helpers/tiny-pipelines.ts';

let root = '';
let folder: ReturnType<typeof tinyPipelines>;
beforeAll(() => {
	root = mkdtempSync(join(tmpdir(), 'sample-to-file-'));
	folder = tinyPipelines(root);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Width and height of a PNG file. */
function sizeOfPng(path: string): readonly [number, number] {
	const bytes = readFileSync(path);
	expect(bytes.subarray(1, 4).toString()).toBe('PNG');
	return [bytes.readUInt32BE(16), bytes.readUInt32BE(20)];
}

describe('prompts', () => {
	it('become a grid, one column each, and say what is going on', async () => {
		const events: SampleEvent[] = [];
		const options = { folder: await folder('sd'), prompts: ['ab', 'cd', 'ef'], steps: 2, height: 16, width: 16, perLabel: 2 };
		const { output, images } = await sampleToFile({ ...options, onEvent: (e) => events.push(e) });
		expect([output, images]).toEqual([join(options.folder, 'samples.png'), 6]);
		// Small images are enlarged three times; two pixels between them.
		expect(sizeOfPng(output)).toEqual([3 * 50 + 2, 2 * 50 + 2]);
		expect(events.flatMap((e) => (e.kind === 'step' ? [e.step] : []))).toEqual([1, 2]);
		const notes = events.flatMap((e) => (e.kind === 'note' ? [e.text] : [])).join('\n');
		expect(notes).toMatch(/sampling from .*StableDiffusionPipeline[\s\S]*encoding 4 texts with text_encoder[\s\S]*decoding 6 images/);
	});

	it('one alone becomes a picture without a border, and a long one is cut with a note', async () => {
		const events: SampleEvent[] = [];
		const output = join(root, 'deep', 'one.png');
		const prompts = ['one word and another word'];
		await sampleToFile({ folder: await folder('sd'), prompts, steps: 1, height: 16, width: 24, output, onEvent: (e) => events.push(e) });
		expect(sizeOfPng(output)).toEqual([48, 32]);
		expect(events).toContainEqual({ kind: 'note', text: 'only the first 12 tokens are read of: one word and another word' });
	});

	it('stop between steps, leaving no file', async () => {
		const controller = new AbortController();
		const output = join(root, 'stopped.png');
		const work = sampleToFile({
			folder: await folder('sd'),
			prompts: ['ab'],
			steps: 5,
			height: 16,
			width: 16,
			output,
			signal: controller.signal,
			onEvent: (e) => e.kind === 'step' && e.step === 2 && controller.abort(),
		});
		await expect(work).rejects.toThrow(/step 2 of 5: sampling was stopped/);
		expect(existsSync(output)).toBe(false);
	});

	it('are what such models take', async () => {
		const sd = await folder('sd');
		await expect(sampleToFile({ folder: sd, labels: ['fox'], prompts: ['ab'] })).rejects.toThrow(/takes prompts/);
		await expect(sampleToFile({ folder: sd })).rejects.toThrow(/there is no prompt[\s\S]*--prompt/);
	});
});

describe('labels', () => {
	it('are drawn through the autoencoder of the folder', async () => {
		const dit = await folder('dit');
		const { output, images } = await sampleToFile({ folder: dit, steps: 2, perLabel: 1 });
		expect(images).toBe(3);
		expect(sizeOfPng(output)).toEqual([3 * 50 + 2, 52]);
		const pipeline = await createPipeline(dit, { threads: 1 });
		expect(pipeline).toMatchObject({ takes: 'labels', classes: ['owl', 'fox', 'boat'], labelCount: 3 });
		const two = await pipeline.generate({ labels: [1, 2], steps: 2, seed: 4 });
		expect(two.shape).toEqual([2, 3, 16, 16]);
		const one = await pipeline.generate({ labels: [1], steps: 2, seed: 4 });
		expect(relativeDifference(one.images, two.images.subarray(0, one.images.length))).toBeLessThan(1e-4);
		const other = await pipeline.generate({ labels: [0], steps: 2, seed: 4 });
		expect(relativeDifference(other.images, one.images)).toBeGreaterThan(1e-3);
		expect((await pipeline.generate({ labels: [1], steps: 2, height: 8, width: 20 })).shape).toEqual([1, 3, 8, 20]);
		await pipeline.close();
	});

	it('are what such models take', async () => {
		const dit = await folder('dit');
		await expect(sampleToFile({ folder: dit, prompts: ['fox'] })).rejects.toThrow(
			/takes labels, and has no use for prompts[\s\S]*--labels/,
		);
		await expect(sampleToFile({ folder: dit, image: 'a.png' })).rejects.toThrow(/no use for image/);
		await expect(sampleToFile({ folder: dit, labels: ['foxx'] })).rejects.toThrow(/no such class[\s\S]*did you mean fox/);
		await expect(sampleToFile({ folder: dit, labels: [3] })).rejects.toThrow(/a number below 3/);
		await expect(sampleToFile({ folder: dit, width: 10 })).rejects.toThrow(/multiple of 4/);
		await expect(sampleToFile({ folder: dit, controlNet: join(dit, 'vae') })).rejects.toThrow(/takes no ControlNet/);
		const pipeline = await createPipeline(dit);
		await expect(pipeline.generate({ labels: [] })).rejects.toThrow(/no labels/);
		await expect(pipeline.generate({ labels: [3] })).rejects.toThrow(/below 3/);
		await pipeline.close();
	});
});
