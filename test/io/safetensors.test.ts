import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { DiffusionPipeError } from '../../src/core/errors.ts';
import { type DType, makeArray, sizeOf, tensor } from '../../src/core/tensor.ts';
import { toFloat32 } from '../../src/io/half.ts';
import { jsonKeys } from '../../src/io/json-keys.ts';
import { type NamedTensor, openSafetensors, readSafetensors, writeSafetensors } from '../../src/io/safetensors.ts';

let folder = '';
let path = '';
beforeAll(() => {
	folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
	path = join(folder, 'x.safetensors');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const dtypes: DType[] = ['float32', 'float64', 'float16', 'bfloat16', 'int64', 'int32', 'int8', 'uint8', 'bool'];

function bytesOf(data: { buffer: ArrayBufferLike; byteOffset: number; byteLength: number }): Uint8Array {
	return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

const anyTensor = fc
	.record({
		name: fc.string({ maxLength: 12 }).filter((name) => name !== '__metadata__'),
		dtype: fc.constantFrom(...dtypes),
		shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
		seed: fc.integer({ min: 0, max: 255 }),
	})
	.map(({ name, dtype, shape, seed }): NamedTensor => {
		const data = makeArray(dtype, sizeOf(shape));
		const bytes = bytesOf(data);
		for (let i = 0; i < bytes.length; i++) bytes[i] = seed * 31 + i * 17;
		return { name, dtype, shape, data };
	});
const anyTensors = fc.uniqueArray(anyTensor, { selector: (t) => t.name, maxLength: 6 });

/** A file with this header and so many bytes of data. */
function file(header: unknown, dataBytes: number): Uint8Array {
	const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
	const length = Buffer.alloc(8);
	length.writeBigUInt64LE(BigInt(json.length));
	return Buffer.concat([length, json, Buffer.alloc(dataBytes)]);
}

async function refusal(bytes: Uint8Array): Promise<string> {
	writeFileSync(path, bytes);
	const error = await openSafetensors(path).then(
		(reader) => reader.close().then(() => 'opened'),
		(e: unknown) => e,
	);
	expect(error).toBeInstanceOf(DiffusionPipeError);
	expect((error as DiffusionPipeError).kind).toBe('input');
	return (error as DiffusionPipeError).message;
}

test('what is written is read back byte for byte, in the same order', async () => {
	await fc.assert(
		fc.asyncProperty(anyTensors, fc.dictionary(fc.string({ maxLength: 5 }), fc.string({ maxLength: 5 })), async (tensors, metadata) => {
			await writeSafetensors(path, tensors, metadata);
			const reader = await openSafetensors(path);
			try {
				expect(reader.names).toEqual(tensors.map((t) => t.name));
				expect(Object.entries(reader.metadata).sort()).toEqual(Object.entries(metadata).sort());
				for (const { name, dtype, shape, data } of tensors) {
					for (const read of [await reader.read(name), reader.readSync(name)]) {
						expect({ dtype: read.dtype, shape: read.shape }).toEqual({ dtype, shape });
						expect(bytesOf(read.data)).toEqual(bytesOf(data as Uint8Array));
					}
				}
			} finally {
				await reader.close();
			}
		}),
		{ numRuns: 60 },
	);
});

test('the data starts at a multiple of 8 and names that look like numbers keep their place', async () => {
	const one = (name: string): NamedTensor => ({ name, dtype: 'uint8', shape: [1], data: Uint8Array.of(7) });
	await writeSafetensors(path, [one('b'), one('1'), one('0')], { format: 'pt' });
	const bytes = readFileSync(path);
	const length = Number(bytes.readBigUInt64LE());
	expect(length % 8).toBe(0);
	expect(bytes.length).toBe(8 + length + 3);
	expect(bytes.subarray(8, 8 + length).toString()).toMatch(/^\{"__metadata__":\{"format":"pt"\},"b".*"1".*"0".*\} *$/);
});

test('data given as a function is asked for one tensor at a time', async () => {
	const asked: string[] = [];
	const lazy = (name: string): NamedTensor => ({
		name,
		dtype: 'int32',
		shape: [2],
		data: async () => {
			asked.push(name);
			return Int32Array.of(1, asked.length);
		},
	});
	await writeSafetensors(path, [lazy('x'), lazy('y')]);
	expect(asked).toEqual(['x', 'y']);
	const { tensors } = await readSafetensors(path);
	expect([...tensors.get('y')!.data]).toEqual([1, 2]);
});

test('a failed write leaves the former file', async () => {
	await writeSafetensors(path, [{ name: 'a', dtype: 'int8', shape: [1], data: Int8Array.of(3) }]);
	const before = readFileSync(path);
	const wrong = writeSafetensors(path, [{ name: 'a', dtype: 'int8', shape: [2], data: Int8Array.of(3) }]);
	await expect(wrong).rejects.toThrow(/data of tensor "a" does not fit.*\n.*Int8Array of 2 elements for int8\[2\]\n.*Int8Array of 1/);
	const twice: NamedTensor = { name: 'a', dtype: 'int8', shape: [1], data: Int8Array.of(3) };
	await expect(writeSafetensors(path, [twice, twice])).rejects.toThrow(DiffusionPipeError);
	expect(readFileSync(path)).toEqual(before);
});

test('unaligned data and types we do not hold are listed; reading such a type says which', async () => {
	const header = {
		byte: { dtype: 'U8', shape: [1], data_offsets: [0, 1] },
		f: { dtype: 'F32', shape: [1], data_offsets: [1, 5] },
		q: { dtype: 'F8_E4M3', shape: [3], data_offsets: [5, 8] },
		four: { dtype: 'F4', shape: [4], data_offsets: [8, 10] },
	};
	const bytes = file(header, 10);
	new DataView(bytes.buffer, bytes.byteOffset).setFloat32(bytes.length - 9, 1.5, true);
	writeFileSync(path, bytes);
	const reader = await openSafetensors(path);
	expect((await reader.read('f')).data).toEqual(Float32Array.of(1.5));
	expect(reader.info('q')).toMatchObject({ storedType: 'F8_E4M3', dtype: undefined, shape: [3] });
	await expect(reader.read('q')).rejects.toThrow(/tensor "q" has the element type F8_E4M3/);
	await expect(reader.read('nope')).rejects.toThrow(/no tensor named "nope"/);
	await reader.close();
	await expect(reader.read('f')).rejects.toThrow(/closed/);
});

describe('malformed files are refused with the reason', () => {
	const info = (begin: unknown, end: unknown, shape: unknown = [1], dtype: unknown = 'U8'): unknown => ({
		dtype,
		shape,
		data_offsets: [begin, end],
	});
	const cases: [string, Uint8Array, RegExp][] = [
		['empty', new Uint8Array(0), /too short/],
		['length only half there', new Uint8Array(4), /too short/],
		['header longer than the file', Uint8Array.of(200, 0, 0, 0, 0, 0, 0, 0, 123, 125), /cut off: the header/],
		['header over 100 MB', Uint8Array.of(0, 0, 0, 0, 1, 0, 0, 0, 123, 125), /header is too long/],
		['header length beyond all numbers', new Uint8Array(16).fill(255), /header is too long/],
		['no header', new Uint8Array(8), /not JSON/],
		['not JSON', file('hello', 0), /not JSON/],
		['not UTF-8', Uint8Array.of(4, 0, 0, 0, 0, 0, 0, 0, 123, 34, 255, 125), /not JSON/],
		['a list', file([], 0), /not an object/],
		['an entry of null', file({ a: null }, 0), /entry of tensor "a"/],
		['data cut off', file({ a: info(0, 4, [4]) }, 3), /cut off/],
		['data left over', file({ a: info(0, 4, [4]) }, 5), /bytes after the last/],
		['overlap', file({ a: info(0, 4, [4]), b: info(2, 6, [4]) }, 6), /"a" and "b" overlap/],
		['same bytes twice', file({ a: info(0, 4, [4]), b: info(0, 4, [4]) }, 4), /overlap/],
		['hole', file({ a: info(0, 4, [4]), b: info(5, 9, [4]) }, 9), /a hole between "a" and tensor "b"/],
		['hole at the start', file({ a: info(1, 5, [4]) }, 5), /a hole/],
		['size against shape', file({ a: info(0, 4, [3]) }, 4), /size of tensor "a" is wrong/],
		['end before begin', file({ a: info(4, 0, [4]) }, 4), /size of tensor "a" is wrong/],
		['half bytes', file({ a: info(0, 1, [1], 'F4') }, 1), /size of tensor "a" is wrong/],
		['broken offset', file({ a: info(0, 1.5) }, 2), /data_offsets of tensor "a"/],
		['negative offset', file({ a: info(-1, 0) }, 1), /data_offsets/],
		['offset as text', file({ a: info('0', 1) }, 1), /data_offsets/],
		['offset NaN', file('{"a":{"dtype":"U8","shape":[1],"data_offsets":[NaN,1]}}', 1), /not JSON/],
		['offset infinite', file('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1e999]}}', 1), /data_offsets/],
		['three offsets', file({ a: { dtype: 'U8', shape: [1], data_offsets: [0, 1, 2] } }, 1), /data_offsets/],
		['no offsets', file({ a: { dtype: 'U8', shape: [1] } }, 1), /data_offsets/],
		['negative size', file({ a: info(0, 1, [-1]) }, 1), /shape of tensor "a"/],
		['size that overflows', file({ a: info(0, 0, [2 ** 40, 2 ** 40]) }, 0), /too large/],
		['unknown dtype', file({ a: info(0, 1, [1], 'F7') }, 1), /unknown dtype of tensor "a"/],
		['dtype of the prototype', file({ a: info(0, 1, [1], 'constructor') }, 1), /unknown dtype/],
		['metadata of numbers', file({ __metadata__: { a: 1 } }, 0), /__metadata__ "a" is not a string/],
		[
			'a name twice',
			file('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0),
			/given twice.*"a"/s,
		],
		['an offset key twice', file('{"a":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}', 0), /given twice.*"dtype"/s],
	];
	test.each(cases)('%s', async (_, bytes, reason) => {
		const message = await refusal(bytes);
		expect(message).toContain(path);
		expect(message).toMatch(reason);
	});

	test('a missing file and a folder', async () => {
		await expect(openSafetensors(join(folder, 'none.safetensors'))).rejects.toThrow(/none\.safetensors: cannot open/);
		await expect(openSafetensors(folder)).rejects.toThrow(DiffusionPipeError);
	});
});

test('a file that shrinks after it was opened gives an input error', async () => {
	await writeSafetensors(path, [{ name: 'a', dtype: 'float32', shape: [100], data: new Float32Array(100) }]);
	const reader = await openSafetensors(path);
	writeFileSync(path, readFileSync(path).subarray(0, statSync(path).size - 10));
	await expect(reader.read('a')).rejects.toThrow(/cut off while it was read/);
	expect(() => reader.readSync('a')).toThrow(/cut off while it was read/);
	await reader.close();
});

test('random corruption gives an input error or a readable file, never another exception', async () => {
	let refused = 0;
	const edit = fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), byte: fc.integer({ min: 0, max: 255 }) });
	await fc.assert(
		fc.asyncProperty(
			anyTensors,
			fc.array(edit, { minLength: 1, maxLength: 4 }),
			fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
			async (tensors, edits, cut) => {
				await writeSafetensors(path, tensors);
				let bytes = readFileSync(path);
				const headerEnd = 8 + Number(bytes.readBigUInt64LE());
				for (const { at, byte } of edits) bytes[Math.floor(at * headerEnd)] = byte;
				if (cut !== null) bytes = bytes.subarray(0, Math.floor(cut * bytes.length));
				writeFileSync(path, bytes);
				try {
					await readSafetensors(path);
				} catch (error) {
					refused++;
					expect(error).toBeInstanceOf(DiffusionPipeError);
					expect((error as DiffusionPipeError).kind).toBe('input');
				}
			},
		),
		{ numRuns: 300 },
	);
	expect(refused).toBeGreaterThan(100);
});

test('keys are listed in their order, and duplicates found at any depth and nowhere else', () => {
	expect(jsonKeys('{"b":[{"b":1},{"b":1}],"1":{"a":"a,\\"a\\":"}}')).toEqual({ top: ['b', '1'], duplicate: undefined });
	expect(jsonKeys('{"a":[{"b":1,"b":2}]}').duplicate).toBe('b');
	expect(jsonKeys('{"x":{"y":1},"z":0,"x":2}').duplicate).toBe('x');
	fc.assert(fc.property(fc.jsonValue(), (value) => jsonKeys(JSON.stringify(value)).duplicate === undefined));
});

test('half types widen to float32 exactly', () => {
	const values = [0, -0, 1, -1.5, 65504, 2 ** -24, Number.POSITIVE_INFINITY, Number.NaN];
	expect([...toFloat32(tensor('float16', [8], values)).data]).toEqual(values);
	expect([...toFloat32(tensor('bfloat16', [4], [0, -2, 3.140625, Number.NEGATIVE_INFINITY])).data]).toEqual([
		0,
		-2,
		3.140625,
		Number.NEGATIVE_INFINITY,
	]);
	const same = tensor('float32', [1], [0.1]);
	expect(toFloat32(same)).toBe(same);
	expect([...toFloat32(tensor('float64', [1], [0.1])).data]).toEqual([Math.fround(0.1)]);
	expect(() => toFloat32(tensor('int64', [1], [1]))).toThrow(/cannot be taken as float32.*int64\[1\]/s);
});
