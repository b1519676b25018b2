/** @file From a folder to a picture file, for prompts and for labels, as the command does it. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createPipeline, type SampleEvent, sampleToFile } from '../../src/generate/index.ts';
import { relativeDifference } from '../helpers/fixture.ts';
import { tinyPipelines } from '../helpers/tiny-pipelines.ts';
import { startHub } from '../io/hub-server.ts';

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

	it('of a model trained on pixels need no autoencoder', async () => {
		const bare = join(root, 'bare');
		cpSync(await folder('sd'), bare, { recursive: true });
		const index = JSON.parse(readFileSync(join(bare, 'model_index.json'), 'utf8')) as Record<string, unknown>;
		writeFileSync(join(bare, 'model_index.json'), JSON.stringify({ ...index, vae: [null, null] }));
		const pipeline = await createPipeline(bare, { threads: 1 });
		const { shape, images } = await pipeline.generate({ prompts: ['ab'], steps: 2 });
		expect(shape).toEqual([1, 4, 8, 8]);
		expect(images.every((v) => Math.abs(v) <= 1)).toBe(true);
		await pipeline.close();
	});

	it('go to a model of the hub by its name', async () => {
		const own = await folder('sd');
		const paths = readdirSync(own, { recursive: true, encoding: 'utf8' }).filter((path) => statSync(join(own, path)).isFile());
		const files = new Map(paths.filter((path) => !path.endsWith('.png')).map((path) => [path, readFileSync(join(own, path))] as const));
		const hub = await startHub({ id: 'someone/tiny-sd', commit: 'a'.repeat(40), files });
		vi.stubEnv('HF_ENDPOINT', hub.url);
		vi.stubEnv('HF_HUB_CACHE', join(root, 'cache'));
		try {
			const events: SampleEvent[] = [];
			const output = join(root, 'fetched.png');
			const options = { prompts: ['ab'], steps: 2, height: 16, width: 16 };
			await sampleToFile({ ...options, folder: 'someone/tiny-sd', output, onEvent: (e) => events.push(e) });
			const here = join(root, 'here.png');
			await sampleToFile({ ...options, folder: own, output: here });
			expect(readFileSync(output)).toEqual(readFileSync(here));
			const fetched = events.flatMap((e) => (e.kind === 'fetch' ? [e] : []));
			expect(fetched.at(-1)!.bytes).toBe(fetched.at(-1)!.total);
		} finally {
			vi.unstubAllEnvs();
			await hub.close();
		}
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
