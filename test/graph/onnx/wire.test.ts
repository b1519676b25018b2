/** @file Protobuf's wire format, against protobuf's own examples and malformed bytes. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DiffusionPipeError } from '../../../src/core/errors.ts';
import {
	bytesField,
	encodeMessage,
	floatField,
	type InField,
	intField,
	type Message,
	messageField,
	readBigInt,
	readBigInts,
	readBytes,
	readFields,
	readFloat,
	readFloats,
	readInt,
	readMessage,
	readString,
	stringField,
	wholeMessage,
} from '../../../src/graph/onnx/wire.ts';

const message = (...bytes: number[]): Message => wholeMessage(Uint8Array.from(bytes), 'file');

/** The value of field `number`, read by `read`. */
function field<T>(m: Message, number: number, read: (f: InField) => T): T {
	const found: T[] = [];
	readFields(m, { [number]: (f) => found.push(read(f)) });
	expect(found).toHaveLength(1);
	return found[0]!;
}

describe('examples of the protobuf documentation', () => {
	it('writes a small integer', () => {
		expect([...encodeMessage([intField(1, 150)])]).toEqual([0x08, 0x96, 0x01]);
	});
	it('writes a string', () => {
		expect([...encodeMessage([stringField(2, 'testing')])]).toEqual([0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
	});
	it('writes a message in a message', () => {
		expect([...encodeMessage([messageField(3, [intField(1, 150)])])]).toEqual([0x1a, 0x03, 0x08, 0x96, 0x01]);
	});
	it('writes -2 in ten bytes', () => {
		expect([...encodeMessage([intField(1, -2)])]).toEqual([0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
	});
	it('reads packed numbers', () => {
		const into: bigint[] = [];
		readFields(message(0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05), { 6: (f) => readBigInts(f, into) });
		expect(into).toEqual([3n, 270n, 86942n]);
	});
});

describe('round trips', () => {
	it('of every 64-bit integer', () => {
		const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
		fc.assert(
			fc.property(fc.oneof(int64, fc.integer().map(BigInt)), fc.integer({ min: 1, max: 2 ** 29 - 1 }), (value, number) => {
				expect(field(wholeMessage(encodeMessage([intField(number, value)]), 'file'), number, readBigInt)).toBe(value);
			}),
		);
	});
	it('of floats, strings and bytes, at any offset into a buffer', () => {
		fc.assert(
			fc.property(fc.float({ noNaN: true }), fc.string({ unit: 'grapheme' }), fc.uint8Array(), fc.nat(7), (x, text, bytes, shift) => {
				const encoded = encodeMessage([floatField(1, x), stringField(2, text), messageField(3, [bytesField(4, bytes)])]);
				const buffer = new Uint8Array(encoded.length + 20);
				buffer.set(encoded, shift);
				const m = wholeMessage(buffer.subarray(shift, shift + encoded.length), 'file');
				expect(field(m, 1, readFloat)).toBe(x);
				expect(field(m, 2, readString)).toBe(text);
				expect([...field(field(m, 3, readMessage), 4, readBytes)]).toEqual([...bytes]);
			}),
		);
	});
	it('of numbers packed or one by one', () => {
		const floats: number[] = [];
		const view = new DataView(new ArrayBuffer(8));
		view.setFloat32(0, 1.5, true);
		view.setFloat32(4, -2, true);
		const m = wholeMessage(encodeMessage([bytesField(1, new Uint8Array(view.buffer)), floatField(1, 3)]), 'file');
		readFields(m, { 1: (f) => readFloats(f, floats) });
		expect(floats).toEqual([1.5, -2, 3]);
		const doubles: number[] = [];
		view.setFloat64(0, 0.1, true);
		readFields(wholeMessage(encodeMessage([bytesField(1, new Uint8Array(view.buffer))]), 'file'), { 1: (f) => readFloats(f, doubles, 8) });
		expect(doubles).toEqual([0.1]);
	});
});

it('does not copy payloads while a message is laid out, and once when it is encoded', () => {
	const data = new Uint8Array(1 << 20).fill(7);
	const inner = bytesField(9, data);
	expect(inner.kind === 'bytes' && inner.data).toBe(data);
	const encoded = encodeMessage([messageField(1, [messageField(2, [inner])])]);
	expect(encoded.length).toBe(encoded.buffer.byteLength);
	expect(encoded.at(-1)).toBe(7);
});

describe('malformed bytes', () => {
	const cases: [string, Message, RegExp][] = [
		['a varint that ends early', message(0x08, 0x96), /^file, byte 1: a varint is cut short/],
		['a varint of eleven bytes', message(0x08, ...new Array(10).fill(0x80), 0x01), /byte 1: a varint is longer than ten bytes/],
		['a tag that ends early', message(0x80), /byte 0: a varint is cut short/],
		['a tag beyond 32 bits', message(0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 0), /byte 0: a tag or length is out of range/],
		[
			'a length past the end',
			message(0x12, 0x05, 0x61),
			/byte 0: field 2 reaches 4 bytes past the end of its message\n {2}expected: at most 1 bytes/,
		],
		['a negative length', message(0x12, ...new Array(9).fill(0xff), 0x01), /byte 1: a tag or length is out of range/],
		['a fixed number that ends early', message(0x0d, 0, 0), /field 1 reaches 2 bytes past/],
		['a group', message(0x0b), /byte 0: wire type 3 is not used/],
		['field number 0', message(0x00, 0x00), /byte 0: field number 0 does not exist/],
	];
	it.each(cases)('%s', (_, m, expected) => {
		let error: unknown;
		try {
			readFields(m, {});
		} catch (e) {
			error = e;
		}
		expect(error).toBeInstanceOf(DiffusionPipeError);
		expect((error as DiffusionPipeError).kind).toBe('input');
		expect((error as DiffusionPipeError).message).toMatch(expected);
	});
	it('a field of another type', () => {
		expect(() => field(message(0x08, 0x01), 1, readString)).toThrow('byte 1: field 1 has wire type 0\n  expected: 2');
		expect(() => field(message(0x0a, 0x00), 1, readInt)).toThrow('field 1 has wire type 2\n  expected: 0');
	});
	it('text that is not UTF-8', () => {
		expect(() => field(message(0x0a, 0x02, 0xc3, 0x28), 1, readString)).toThrow('byte 2: field 1 is not UTF-8 text');
	});
	it('an integer beyond 2^53 where a number is wanted', () => {
		expect(() => field(wholeMessage(encodeMessage([intField(1, 2n ** 60n)]), 'file'), 1, readInt)).toThrow('a whole number below 2^53');
	});
	it('packed floats of a broken length', () => {
		expect(() => field(message(0x0a, 0x03, 0, 0, 0), 1, (f) => readFloats(f, []))).toThrow(
			'field 1 has 3 bytes\n  expected: a multiple of 4',
		);
	});
	it('messages nested without end', () => {
		let bytes = new Uint8Array();
		for (let i = 0; i < 100; i++) bytes = encodeMessage([bytesField(1, bytes)]) as Uint8Array<ArrayBuffer>;
		const descend = (m: Message): void => readFields(m, { 1: (f) => descend(readMessage(f)) });
		expect(() => descend(wholeMessage(bytes, 'file'))).toThrow('messages are nested more than 32 deep');
	});
});
