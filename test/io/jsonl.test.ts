import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openJsonLines } from '../../src/io/jsonl.ts';

let folder = '';
let path = '';
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'jsonl-'));
	path = join(folder, 'run/metrics.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const lines = (): unknown[] =>
	readFileSync(path, 'utf8')
		.split('\n')
		.filter((line) => line !== '')
		.map((line) => JSON.parse(line));

async function write(count: number): Promise<void> {
	const log = await openJsonLines(path);
	log.append({ event: 'start' });
	for (let step = 0; step < count; step++) log.append({ step, loss: 1 / (step + 1) });
	log.close();
}

test('lines are added, also to a file that was there', async () => {
	await write(2);
	const inode = statSync(path).ino;
	const log = await openJsonLines(path);
	expect(log.dropped).toBe(0);
	log.append({ step: 2 });
	expect(lines()).toEqual([{ event: 'start' }, { step: 0, loss: 1 }, { step: 1, loss: 0.5 }, { step: 2 }]);
	log.flush();
	log.close();
	log.close();
	expect(statSync(path).ino).toBe(inode);
	expect(() => log.append({})).toThrow(/after it was closed/);
});

test('resuming cuts the steps that will run again and keeps the rest', async () => {
	await write(6);
	const log = await openJsonLines(path, { resumeFrom: 3 });
	expect(log.dropped).toBe(3);
	log.append({ step: 3, loss: 7 });
	log.close();
	expect(lines()).toEqual([
		{ event: 'start' },
		{ step: 0, loss: 1 },
		{ step: 1, loss: 1 / 2 },
		{ step: 2, loss: 1 / 3 },
		{ step: 3, loss: 7 },
	]);
	expect(readdirSync(join(folder, 'run'))).toEqual(['metrics.jsonl']);
});

test('wherever a crash tore the last line, what is appended next stands on its own line', async () => {
	await write(3);
	const bytes = readFileSync(path);
	for (let cut = 0; cut <= bytes.length; cut++) {
		writeFileSync(path, bytes.subarray(0, cut));
		const wholeLines = bytes
			.subarray(0, cut)
			.toString()
			.split('\n')
			.filter((line) => line.endsWith('}'));
		const log = await openJsonLines(path);
		log.append({ step: 99 });
		log.close();
		expect(lines()).toEqual([...wholeLines.map((line) => JSON.parse(line)), { step: 99 }]);
	}
});

test('blocks of zeros, as a power cut leaves them, are dropped', async () => {
	await write(2);
	writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(100)]));
	const log = await openJsonLines(path);
	expect(log.dropped).toBe(1);
	log.close();
	expect(lines()).toHaveLength(3);
});

test('a loss that is not a number stays visible', async () => {
	const log = await openJsonLines(path);
	log.append({ step: 0, loss: Number.NaN, norm: Number.POSITIVE_INFINITY });
	log.close();
	expect(lines()).toEqual([{ step: 0, loss: 'NaN', norm: 'Infinity' }]);
});

test('a path that cannot be opened is named', async () => {
	writeFileSync(join(folder, 'run'), '');
	await expect(openJsonLines(path)).rejects.toThrow(/metrics\.jsonl: cannot/);
});
