import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { crc32c } from '../../src/io/crc32c.ts';
import { encodePng } from '../../src/io/png.ts';
import { EventWriter } from '../../src/io/tensorboard.ts';

let folder = '';
beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), 'events-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Field = [number: number, value: bigint | number | Buffer];

/** Independent reader: the payloads of all whole records, checksums verified by long division instead of a table. */
function readRecords(bytes: Buffer): { payloads: Buffer[]; torn: number } {
	const payloads: Buffer[] = [];
	let at = 0;
	while (bytes.length - at >= 12) {
		const length = Number(bytes.readBigUInt64LE(at));
		expect(unmask(bytes.readUInt32LE(at + 8))).toBe(slowCrc(bytes.subarray(at, at + 8)));
		if (bytes.length - at < 16 + length) break;
		const payload = bytes.subarray(at + 12, at + 12 + length);
		expect(unmask(bytes.readUInt32LE(at + 12 + length))).toBe(slowCrc(payload));
		payloads.push(payload);
		at += 16 + length;
	}
	return { payloads, torn: bytes.length - at };
}

function unmask(masked: number): number {
	const rotated = (masked - 0xa282ead8) >>> 0;
	return ((rotated >>> 17) | (rotated << 15)) >>> 0;
}

function slowCrc(bytes: Uint8Array): number {
	let crc = 0xffffffffn;
	for (const byte of bytes) {
		crc ^= BigInt(byte);
		for (let k = 0; k < 8; k++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
	}
	return Number(crc ^ 0xffffffffn);
}

/** Any protobuf message as its fields. */
function fields(message: Buffer): Field[] {
	const out: Field[] = [];
	let at = 0;
	const varint = (): bigint => {
		let value = 0n;
		for (let shift = 0n; ; shift += 7n) {
			const byte = message.readUInt8(at++);
			value |= BigInt(byte & 127) << shift;
			if (byte < 128) return value;
		}
	};
	while (at < message.length) {
		const key = Number(varint());
		const start = at;
		if ((key & 7) === 0) {
			out.push([key >> 3, varint()]);
		} else if ((key & 7) === 1) {
			at += 8;
			out.push([key >> 3, message.readDoubleLE(start)]);
		} else if ((key & 7) === 5) {
			at += 4;
			out.push([key >> 3, message.readFloatLE(start)]);
		} else {
			expect(key & 7).toBe(2);
			const length = Number(varint());
			at += length;
			out.push([key >> 3, message.subarray(at - length, at)]);
		}
	}
	expect(at).toBe(message.length);
	return out;
}

const get = (message: unknown, field: number): bigint | number | Buffer | undefined =>
	fields(message as Buffer).find(([number]) => number === field)?.[1];

test('crc32c gives the check values of RFC 3720', () => {
	expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
	expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
	expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
});

test('scalars and images are records that an independent reader understands', () => {
	const writer = new EventWriter(folder, { now: () => 1_700_000_000_250, host: 'node 7' });
	writer.scalars(3, { 'train/loss': 0.25, 'train/lr': 1e-4 });
	writer.scalar('train/loss', Number.NaN, 2 ** 40);
	const png = encodePng(new Uint8Array(6), 2, 1, 3);
	writer.image('samples', { png, width: 2, height: 1, channels: 3 }, 4);
	writer.flush();
	writer.close();
	writer.close();
	expect(readdirSync(folder)).toEqual(['events.out.tfevents.1700000000.node_7']);
	const { payloads, torn } = readRecords(readFileSync(writer.path));
	expect(torn).toBe(0);
	expect(payloads).toHaveLength(4);
	expect(fields(payloads[0]!)).toEqual([
		[1, 1_700_000_000.25],
		[2, 0n],
		[3, Buffer.from('brain.Event:2')],
	]);
	expect(get(payloads[1], 2)).toBe(3n);
	const values = fields(get(payloads[1], 5) as Buffer).map(([number, value]) => {
		expect(number).toBe(1);
		return [String(get(value, 1)), get(value, 2)];
	});
	expect(values).toEqual([
		['train/loss', 0.25],
		['train/lr', Math.fround(1e-4)],
	]);
	expect(get(payloads[2], 2)).toBe(2n ** 40n);
	expect(get(get(get(payloads[2], 5), 1), 2)).toBeNaN();
	const value = get(get(payloads[3], 5), 1);
	expect(String(get(value, 1))).toBe('samples');
	expect(fields(get(value, 4) as Buffer)).toEqual([
		[1, 1n],
		[2, 2n],
		[3, 3n],
		[4, Buffer.from(png)],
	]);
});

test('wherever the file is cut, all records before the cut are readable', () => {
	const writer = new EventWriter(folder);
	for (let step = 0; step < 5; step++) writer.scalar('x', step, step);
	const bytes = readFileSync(writer.path);
	writer.close();
	const whole = readRecords(bytes).payloads.length;
	expect(whole).toBe(6);
	let last = 0;
	for (let cut = 0; cut <= bytes.length; cut++) {
		const count = readRecords(bytes.subarray(0, cut)).payloads.length;
		expect(count).toBeGreaterThanOrEqual(last);
		last = count;
	}
	expect(last).toBe(whole);
});

test('a resumed run writes a new file that tells TensorBoard to forget later steps', () => {
	const options = { now: () => 1_700_000_000_000, host: 'h' };
	const first = new EventWriter(folder, options);
	first.close();
	const before = readFileSync(first.path);
	const second = new EventWriter(folder, { ...options, resumeFrom: 7 });
	second.close();
	expect(readdirSync(folder).sort()).toEqual(['events.out.tfevents.1700000000.h', 'events.out.tfevents.1700000000.h.1']);
	expect(readFileSync(first.path)).toEqual(before);
	const { payloads } = readRecords(readFileSync(second.path));
	expect(payloads.map((payload) => get(payload, 2))).toEqual([7n, 7n]);
	expect(get(get(payloads[1], 7), 1)).toBe(1n);
});

test('misuse and bad folders are named', () => {
	const writer = new EventWriter(folder);
	expect(() => writer.scalar('x', 1, -1)).toThrow(/whole number/);
	expect(() => writer.scalar('x', 1, 0.5)).toThrow(/0\.5/);
	writer.close();
	expect(() => writer.scalar('x', 1, 1)).toThrow(/after it was closed/);
	writeFileSync(join(folder, 'file'), '');
	expect(() => new EventWriter(join(folder, 'file'))).toThrow(/cannot start an event file/);
});
