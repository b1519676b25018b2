/** @file Conditioning pictures beside images: named by the metadata or computed, cropped and mirrored with their image. */
import { rmSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { batchMaker } from '../../../src/train/data/batches.ts';
import { parseCsv } from '../../../src/train/data/csv.ts';
import { edgeMap } from '../../../src/train/data/edges.ts';
import { openEmoji } from '../../../src/train/data/emoji.ts';
import { openImageFolder } from '../../../src/train/data/image-folder.ts';
import type { DataSet } from '../../../src/train/data/types.ts';
import { folderOf, fromPixels } from './images.ts';

const folders: string[] = [];
afterAll(() => {
	for (const folder of folders) rmSync(folder, { recursive: true });
});
const folder = (files: Record<string, string | Uint8Array>) => {
	const path = folderOf(files);
	folders.push(path);
	return path;
};

/** A picture whose pixel (x, y) has the brightness 10 x + y, so that a crop and a mirror image show. */
const ramp = (width: number, height: number, blue = 0) =>
	fromPixels(
		Array.from({ length: width * height }, (_, i) => {
			const value = 10 * (i % width) + Math.floor(i / width);
			return [value, value, blue === 0 ? value : blue];
		}).flat(),
		width,
		height,
		3,
	)
		.png()
		.toBuffer();
const names = (lines: readonly object[]) => lines.map((line) => JSON.stringify(line)).join('\n');
const open = (path: string, conditioning_image: 'file' | 'edges' = 'file') =>
	openImageFolder({ type: 'folder', path, height: 8, width: 8, conditioning_image });
const bytes = (values: Float32Array, from: number, to: number) => Array.from(values, (v) => Math.round(((v - from) / (to - from)) * 255));

describe('conditioning pictures of a folder', () => {
	it('are those that the metadata names, with the crop of their images, in [0, 1]', async () => {
		const files = { 'a.png': await ramp(12, 8), 'c/a.png': await ramp(12, 8) };
		const jsonl = folder({
			...files,
			'metadata.jsonl': names([{ file_name: 'a.png', text: 'x', conditioning_image_file_name: 'c/a.png' }]),
		});
		const csv = folder({ ...files, 'metadata.csv': 'file_name,text,conditioning_image\r\na.png,"x, ""y""",c/a.png\r\n' });
		for (const [path, caption] of [
			[jsonl, 'x'],
			[csv, 'x, "y"'],
		] as const) {
			const set = await open(path);
			expect(set).toMatchObject({ size: 1, conditioned: true });
			const example = await set.load(0);
			expect(example.caption).toBe(caption);
			expect(bytes(example.conditioning!, 0, 1)).toEqual(bytes(example.image, -1, 1));
			expect(bytes(example.conditioning!, 0, 1)[0]).toBe(20);
		}
	});

	it('are mirrored with their images', async () => {
		const path = folder({
			'a.png': await ramp(8, 8),
			'c/a.png': await ramp(8, 8),
			'metadata.jsonl': names([{ file_name: 'a.png', conditioning_image_file_name: 'c/a.png' }]),
		});
		const make = batchMaker(await open(path), { seed: 1, batchSize: 8, flip: true }, { cacheBytes: 1e6, decoders: 1, onBroken: () => {} });
		const { images, conditioning, mirrored } = await make(0);
		expect(new Set(mirrored).size).toBe(2);
		expect(bytes(conditioning!, 0, 1)).toEqual(bytes(images, -1, 1));
	});

	it('may be edges instead', async () => {
		const set = await open(folder({ 'a.png': await ramp(8, 8) }), 'edges');
		const { image, conditioning } = await set.load(0);
		expect(conditioning).toEqual(edgeMap(image, 3, 8, 8));
	});

	it('that are missing, of another aspect ratio, or outside the folder are refused by name', async () => {
		const image = await ramp(8, 8);
		const with_ = (conditioning: object, more: Record<string, Uint8Array> = {}) =>
			open(folder({ 'a.png': image, ...more, 'metadata.jsonl': names([{ file_name: 'a.png', ...conditioning }]) }));
		await expect(with_({})).rejects.toThrow(
			/metadata.jsonl line 1: an image has no conditioning picture[\s\S]*conditioning_image_file_name/,
		);
		await expect(open(folder({ 'a.png': image }))).rejects.toThrow(/no conditioning picture[\s\S]*data.conditioning_image = "edges"/);
		await expect(with_({ conditioning_image_file_name: '../a.png' })).rejects.toThrow(/conditioning_image_file_name is malformed/);
		const load = async (set: DataSet) => set.load(0);
		await expect(with_({ conditioning_image_file_name: 'c.png' }).then(load)).rejects.toThrow(
			/c\.png: cannot decode the conditioning picture/,
		);
		await expect(with_({ conditioning_image_file_name: 'c.png' }, { 'c.png': await ramp(8, 6) }).then(load)).rejects.toThrow(
			/another aspect ratio than its image[\s\S]*8 x 6/,
		);
	});
});

describe('an edge map', () => {
	it('is zero where nothing changes, one at a step from black to white, and the same in all channels', () => {
		const image = Float32Array.from({ length: 3 * 4 * 6 }, (_, i) => (i % 6 < 3 ? -1 : 1));
		const row = [0, 0, 1, 1, 0, 0];
		const map = edgeMap(image, 3, 4, 6);
		expect([...map].map((v) => Math.round(v * 1e6) / 1e6)).toEqual(Array.from({ length: 12 }, () => row).flat());
		expect([...edgeMap(new Float32Array(24).fill(0.3), 1, 4, 6)]).toEqual(new Array(72).fill(0));
	});

	it('comes with every emoji', async () => {
		const set = await openEmoji({ type: 'emoji', categories: ['Food & Drink'], size: 16, conditioning_image: 'edges' });
		const { image, conditioning } = await set.load(0);
		expect(set.conditioned).toBe(true);
		expect(conditioning).toEqual(edgeMap(image, 3, 16, 16));
		expect(Math.max(...conditioning!)).toBeGreaterThan(0.3);
	});
});

describe('comma-separated values', () => {
	it('are read with quotes, line breaks in them, and empty lines passed over', () => {
		const text = '\uFEFFfile_name,text\n"a ""b"".png","x\ny"\n\nc.png,\n';
		expect(parseCsv(text, 'm.csv')).toEqual([
			{ fields: { file_name: 'a "b".png', text: 'x\ny' }, line: 2 },
			{ fields: { file_name: 'c.png', text: '' }, line: 5 },
		]);
		expect(parseCsv('', 'm.csv')).toEqual([]);
	});

	it('that are malformed are refused with their line', () => {
		expect(() => parseCsv('a,b\n1,2\n3\n', 'm.csv')).toThrow(/m.csv line 3/);
		expect(() => parseCsv('a,b\n1,"2\n', 'm.csv')).toThrow(/m.csv line 2: a field is malformed/);
	});
});
