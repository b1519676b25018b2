import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DiffusionPipeError } from '../../../src/core/errors.ts';
import { workerEntry } from '../../../src/core/worker-entry.ts';
import { batchMaker } from '../../../src/train/data/batches.ts';
import { type DataOptions, openDataSet } from '../../../src/train/data/index.ts';
import { type Loader, type LoaderOptions, openLoader } from '../../../src/train/data/loader.ts';
import type { Batch } from '../../../src/train/data/types.ts';
import { folderOf, fromPixels } from './images.ts';

let folder = '';
let brokenFolder = '';
let data: DataOptions;
beforeAll(async () => {
	const files: Record<string, Uint8Array | string> = { 'even/bad.png': 'no image', 'odd/short.png': '' };
	for (let i = 0; i < 12; i++) {
		const row = Array.from({ length: 12 }, (_, x) => i * 20 + x);
		files[`${i % 2 ? 'odd' : 'even'}/${i}.png`] = await fromPixels([...row, ...row], 4, 2, 3)
			.png()
			.toBuffer();
	}
	folder = folderOf(files);
	brokenFolder = folderOf({ 'a.png': '1', 'b.png': '2' });
	data = { type: 'folder', path: folder, height: 2, width: 4 };
});
afterAll(() => {
	rmSync(folder, { recursive: true });
	rmSync(brokenFolder, { recursive: true });
});

async function withLoader<T>(options: Partial<LoaderOptions>, use: (loader: Loader) => Promise<T>): Promise<T> {
	const loader = await openLoader(data, { seed: 5, batchSize: 5, ...options });
	try {
		return await use(loader);
	} finally {
		await loader.close();
	}
}

async function failure(promise: Promise<unknown>): Promise<DiffusionPipeError> {
	const error = await promise.catch((e: unknown) => e);
	expect(error).toBeInstanceOf(DiffusionPipeError);
	return error as DiffusionPipeError;
}

const worker = (code: string): URL =>
	new URL(`data:text/javascript,${encodeURIComponent(`import { parentPort } from 'node:worker_threads'; ${code}`)}`);
const ready = "parentPort.postMessage({ type: 'ready', info: { name: 'x', size: 1 } });";

test('the thread gives the batches that the pure function gives, in any order of steps', async () => {
	const dataSet = await openDataSet(data);
	const resources = { cacheBytes: 0, decoders: 1, onBroken: () => {} };
	const pure = batchMaker(dataSet, { seed: 5, batchSize: 5, flip: true }, resources);
	await withLoader({ flip: true, prefetch: 3 }, async (loader) => {
		for (const step of [0, 1, 2, 3, 40, 41, 7, 6, 0, 1]) expect(await loader.batchAt(step)).toEqual(await pure(step));
		const together = await Promise.all([9, 8, 9, 10].map((step) => loader.batchAt(step)));
		for (const batch of together) expect(batch).toEqual(await pure(batch.step));
	});
});

test('a batch belongs to the caller: its buffers can be transferred and the step asked for again', async () => {
	await withLoader({ prefetch: 1 }, async (loader) => {
		const first = await loader.batchAt(1);
		const [moved] = structuredClone([first.images, first.labels], { transfer: [first.images.buffer, first.labels.buffer] }) as [
			Float32Array,
			Int32Array,
		];
		expect(first.images.length).toBe(0);
		expect(moved.length).toBe(5 * 3 * 2 * 4);
		expect((await loader.batchAt(1)).images).toEqual(moved);
	});
});

test('what is known of the data set, and broken files counted, named once and replaced', async () => {
	const reports: string[] = [];
	await withLoader({ onBroken: (name, reason) => reports.push(`${name} ${reason}`) }, async (loader) => {
		expect(loader.info).toMatchObject({ name: folder, size: 14, channels: 3, height: 2, width: 4, classes: ['even', 'odd'] });
		expect(loader.info).not.toHaveProperty('load');
		for (let step = 0; step < 9; step++) {
			const batch: Batch = await loader.batchAt(step);
			for (const name of batch.names) expect(name).toMatch(/\d+\.png$/);
		}
		expect(loader.skipped).toBe(2);
		expect(reports).toHaveLength(2);
		expect(reports.join()).toMatch(/bad\.png/);
		expect(reports.join()).toMatch(/short\.png/);
	});
});

test('only broken files: every batch is refused, and nothing hangs', async () => {
	const loader = await openLoader({ type: 'folder', path: brokenFolder, height: 2, width: 2 }, { seed: 0, batchSize: 2 });
	const error = await failure(loader.batchAt(0));
	expect([error.kind, error.parts.found]).toEqual(['input', '2 broken files']);
	await failure(loader.batchAt(1));
	expect(loader.skipped).toBe(2);
	await loader.close();
});

test('options that are wrong are refused before and in the thread', async () => {
	expect((await failure(openLoader(data, { seed: 1, batchSize: 0 }))).message).toMatch(/batchSize.*\n.*whole number from 1/);
	expect((await failure(openLoader(data, { seed: 0.5, batchSize: 1 }))).message).toMatch(/bad seed/);
	const error = await failure(openLoader({ type: 'folder', path: '/nonexistent', height: 2, width: 2 }, { seed: 1, batchSize: 1 }));
	expect([error.kind, error.parts.place]).toEqual(['input', '/nonexistent']);
	expect(error.parts.hint).toBe('check the path');
});

describe('a thread that dies', () => {
	test('while starting', async () => {
		const error = await failure(openLoader(data, { seed: 1, batchSize: 1 }, worker("throw new Error('no luck')")));
		expect([error.kind, error.parts.found]).toEqual(['engine', 'no luck']);
		await failure(openLoader(data, { seed: 1, batchSize: 1 }, new URL('file:///nonexistent/worker.js')));
	});

	test('under way: all waiting batches and all later ones are rejected with one error', async () => {
		const loader = await openLoader(data, { seed: 1, batchSize: 1 }, worker(`${ready} parentPort.on('message', () => process.exit(3));`));
		const errors = await Promise.all([loader.batchAt(0), loader.batchAt(1), loader.batchAt(7)].map(failure));
		expect(new Set(errors).size).toBe(1);
		expect(errors[0]!.message).toMatch(/the thread that loads data has stopped\n.*exit code 3/);
		expect(await failure(loader.batchAt(8))).toBe(errors[0]);
		await loader.close();
	});
});

test('closing rejects what is waited for, twice is once, and later requests are refused', async () => {
	const loader = await openLoader(data, { seed: 1, batchSize: 500 });
	const waiting = failure(loader.batchAt(0));
	await Promise.all([loader.close(), loader.close()]);
	expect((await waiting).message).toMatch(/the loader was closed/);
	expect((await failure(loader.batchAt(1))).message).toMatch(/the loader was closed/);
});

test('a loader that nobody closed does not keep the process alive', async () => {
	const entry = workerEntry(import.meta.url.replace('/test/', '/src/'), './loader.js').href;
	const script = `const { openLoader } = await import(${JSON.stringify(entry)});
		const loader = await openLoader(${JSON.stringify(data)}, { seed: 1, batchSize: 2 });
		console.log((await loader.batchAt(3)).labels.length);`;
	const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { timeout: 30_000 });
	expect(stdout).toBe('2\n');
});
