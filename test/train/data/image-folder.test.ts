import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { DiffusionPipeError } from '../../../src/core/errors.ts';
import { openImageFolder } from '../../../src/train/data/image-folder.ts';
import type { DataSet } from '../../../src/train/data/types.ts';
import { folderOf, plain } from './images.ts';

let red: Uint8Array;
let jpeg: Uint8Array;
beforeAll(async () => {
	red = await plain(255, 0, 0).png().toBuffer();
	jpeg = await plain(0, 0, 255, 40, 40).jpeg().toBuffer();
});

const open = (path: string): Promise<DataSet> => openImageFolder({ type: 'folder', path, height: 4, width: 6 });

async function using<T>(files: Record<string, string | Uint8Array>, use: (path: string) => Promise<T>): Promise<T> {
	const path = folderOf(files);
	try {
		return await use(path);
	} finally {
		rmSync(path, { recursive: true });
	}
}

async function failure(promise: Promise<unknown>): Promise<DiffusionPipeError> {
	const error = await promise.catch((e: unknown) => e);
	expect(error).toBeInstanceOf(DiffusionPipeError);
	return error as DiffusionPipeError;
}

const all = async (set: DataSet): Promise<[string, number, string][]> => {
	const examples = await Promise.all(Array.from({ length: set.size }, (_, i) => set.load(i)));
	return examples.map(({ name, label, caption }) => [name, label, caption]);
};

test('class folders: sorted names are the classes, images below them count, hidden files do not', async () => {
	const files = { 'dog/b.JPG': jpeg, 'dog/.hidden.png': red, 'cat/deep/a.png': red, 'cat/a.txt': 'of no image', '.git/x.png': red };
	await using(files, async (path) => {
		const set = await open(path);
		expect(set).toMatchObject({ size: 2, channels: 3, height: 4, width: 6, classes: ['cat', 'dog'] });
		expect(await all(set)).toEqual([
			['cat/deep/a.png', 0, 'cat'],
			['dog/b.JPG', 1, 'dog'],
		]);
		const { image } = await set.load(0);
		expect([...image]).toEqual([...Array(24).fill(1), ...Array(48).fill(-1)]);
	});
});

test('captions beside the images, with and without classes', async () => {
	await using({ 'a.png': red, 'a.txt': ' a red square\n', 'b.jpeg': jpeg }, async (path) => {
		const set = await open(path);
		expect(set.classes).toBeUndefined();
		expect(await all(set)).toEqual([
			['a.png', -1, 'a red square'],
			['b.jpeg', -1, ''],
		]);
	});
	await using({ 'x/a.png': red, 'x/a.txt': 'captioned' }, async (path) => {
		expect(await all(await open(path))).toEqual([['x/a.png', 0, 'captioned']]);
	});
});

test('links are followed, but not in circles', async () => {
	await using({ 'x/a.png': red }, async (path) => {
		symlinkSync(path, join(path, 'x/loop'));
		symlinkSync(join(path, 'x/a.png'), join(path, 'x/b.png'));
		symlinkSync(join(path, 'gone.png'), join(path, 'x/c.png'));
		const set = await open(path);
		expect(set.size).toBe(3);
		expect((await set.load(1)).name).toBe('x/b.png');
		expect((await failure(set.load(2))).kind).toBe('input');
	});
});

describe('metadata.jsonl', () => {
	test('named labels are sorted into classes; captions and a missing file', async () => {
		const lines = [
			'{"file_name": "sub/a.png", "text": "a red one", "label": "warm"}',
			'',
			'{"file_name": "b.jpg", "label": "cold"}',
			'{"file_name": "none.png"}',
		];
		await using({ 'metadata.jsonl': lines.join('\n'), 'sub/a.png': red, 'b.jpg': jpeg, 'unnamed.png': red }, async (path) => {
			const set = await open(path);
			expect(set).toMatchObject({ size: 3, classes: ['cold', 'warm'] });
			expect(await set.load(0)).toMatchObject({ name: 'sub/a.png', label: 1, caption: 'a red one' });
			expect(await set.load(1)).toMatchObject({ label: 0, caption: '' });
			const error = await failure(set.load(2));
			expect(error.kind).toBe('input');
			expect(error.message).toMatch(/none\.png: the file is missing\n.*metadata\.jsonl line 4/);
		});
	});

	test('numbered labels', async () => {
		const lines = '{"file_name": "a.png", "label": 2}\n{"file_name": "a.png", "label": 0}';
		await using({ 'metadata.jsonl': lines, 'a.png': red }, async (path) => {
			const set = await open(path);
			expect(set.classes).toEqual(['0', '1', '2']);
			expect((await all(set)).map(([, label]) => label)).toEqual([2, 0]);
		});
	});

	test.each([
		['', /names no images/],
		['{"file_name": "a.png"', /line 1: is not JSON/],
		['[1]', /line 1: file_name is malformed/],
		['{"file_name": "a.png"}\n{"text": "x"}', /line 2: file_name is malformed/],
		['{"file_name": "../a.png"}', /file_name is malformed/],
		['{"file_name": "x/../../a.png"}', /file_name is malformed/],
		['{"file_name": "/etc/a.png"}', /file_name is malformed/],
		['{"file_name": "a.png", "text": 3}', /text is malformed/],
		['{"file_name": "a.png", "label": -1}', /label is malformed/],
		['{"file_name": "a.png", "label": 1e12}', /label is malformed/],
		['{"file_name": "a.png", "label": 1}\n{"file_name": "a.png", "label": "x"}', /line 2: the labels are partly names/],
	])('%s is refused', async (content, reason) => {
		await using({ 'metadata.jsonl': content, 'a.png': red }, async (path) => {
			const error = await failure(open(path));
			expect(error.kind).toBe('input');
			expect(error.message).toMatch(reason);
		});
	});
});

test('broken files are errors of their own, naming the file', async () => {
	const files = { 'a.png': red, 'b.png': 'hello', 'c.jpg': jpeg.subarray(0, jpeg.length >> 1), 'd.webp': '' };
	await using(files, async (path) => {
		const set = await open(path);
		expect((await set.load(0)).image).toHaveLength(72);
		for (const [index, name] of [
			[1, 'b.png'],
			[2, 'c.jpg'],
			[3, 'd.webp'],
		] as const) {
			const error = await failure(set.load(index));
			expect(error.kind).toBe('input');
			expect(error.parts.place).toBe(join(path, name));
			expect(error.message).toMatch(/cannot decode/);
		}
		expect((await failure(set.load(4))).message).toMatch(/no such example/);
	});
});

test('what cannot be a data set is refused with what to do', async () => {
	await using({ 'a.bmp': 'x', 'b.txt': 'y' }, async (path) => {
		expect((await failure(open(path))).message).toMatch(/holds no images\n.*\.png .*\n.*a\.bmp, b\.txt/);
	});
	await using({ 'a.png': red, 'x/b.png': red }, async (path) => {
		expect((await failure(open(path))).message).toMatch(/both images and class folders\n.*a\.png and x\/b\.png\n.*move/);
	});
	expect((await failure(open('/nonexistent/folder'))).message).toMatch(/cannot list/);
});
