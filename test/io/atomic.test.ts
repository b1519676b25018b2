import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { cleanTemporary, listTemporary, temporaryPath, writeFileAtomic, writeFolderAtomic, writeWhole } from '../../src/io/atomic.ts';

let folder = '';
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'atomic-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('writes a file whole, making its folder, and leaves no temporary', async () => {
	await writeWhole(join(folder, 'a/b/c.txt'), 'hello');
	expect(readFileSync(join(folder, 'a/b/c.txt'), 'utf8')).toBe('hello');
	expect(readdirSync(join(folder, 'a/b'))).toEqual(['c.txt']);
});

test('a write that fails half-way leaves the former file and nothing else', async () => {
	const path = join(folder, 'c.txt');
	await writeWhole(path, 'old');
	const failing = writeFileAtomic(path, async (file) => {
		await file.write('new but ');
		throw new Error('power cut');
	});
	await expect(failing).rejects.toThrow(/c\.txt: cannot write\n {2}found: power cut/);
	expect(readFileSync(path, 'utf8')).toBe('old');
	expect(readdirSync(folder)).toEqual(['c.txt']);
});

test('the target is not seen before it is whole', async () => {
	const path = join(folder, 'c.txt');
	await writeFileAtomic(path, async (file) => {
		await file.write('part');
		expect(existsSync(path)).toBe(false);
		expect(await listTemporary(folder)).toHaveLength(1);
	});
	expect(existsSync(path)).toBe(true);
});

test('an impossible path is an input error with the path', async () => {
	writeFileSync(join(folder, 'file'), '');
	const error = await writeWhole(join(folder, 'file/inside.txt'), 'x').catch((e: unknown) => e);
	expect(error).toBeInstanceOf(DiffusionPipeError);
	expect((error as DiffusionPipeError).kind).toBe('input');
	expect((error as DiffusionPipeError).message).toContain('inside.txt');
});

test('a folder appears whole; filling it again needs replace', async () => {
	const path = join(folder, 'model');
	await writeFolderAtomic(path, async (inner) => {
		mkdirSync(join(inner, 'sub'));
		writeFileSync(join(inner, 'sub/x'), '1');
		expect(existsSync(path)).toBe(false);
	});
	expect(readFileSync(join(path, 'sub/x'), 'utf8')).toBe('1');
	await expect(writeFolderAtomic(path, async () => {})).rejects.toThrow(/is there already/);
	await writeFolderAtomic(path, async (inner) => writeFileSync(join(inner, 'y'), '2'), { replace: true });
	expect(readdirSync(path)).toEqual(['y']);
	expect(readdirSync(folder)).toEqual(['model']);
});

test('a folder whose filling fails is not there', async () => {
	const path = join(folder, 'model');
	const failing = writeFolderAtomic(path, async (inner) => {
		writeFileSync(join(inner, 'x'), '1');
		throw new DiffusionPipeError('engine', 'device lost', { place: 'device 1' });
	});
	await expect(failing).rejects.toThrow(/device lost/);
	expect(readdirSync(folder)).toEqual([]);
});

test('cleaning deletes temporaries and brings back a folder caught between two renames', async () => {
	mkdirSync(join(folder, '.checkpoint.old'));
	writeFileSync(join(folder, '.checkpoint.old/weights'), 'precious');
	mkdirSync(join(folder, '.kept.old'));
	mkdirSync(join(folder, 'kept'));
	writeFileSync(temporaryPath(join(folder, 'a.bin')), 'torn');
	mkdirSync(temporaryPath(join(folder, 'b')));
	writeFileSync(join(folder, '.hidden.tmp'), 'of someone else');
	expect(await listTemporary(folder)).toHaveLength(4);
	expect(await cleanTemporary(folder)).toHaveLength(4);
	expect(readdirSync(folder).sort()).toEqual(['.hidden.tmp', 'checkpoint', 'kept']);
	expect(readFileSync(join(folder, 'checkpoint/weights'), 'utf8')).toBe('precious');
	expect(await listTemporary(join(folder, 'missing'))).toEqual([]);
});
