/**
 * @file The header of a safetensors file: its element types, and a parser that trusts no number in it.
 *
 * Layout: u64 little-endian header length, the header as a JSON object { name: { dtype, shape, data_offsets: [begin, end] } } with an optional
 * `__metadata__` object of strings, then the data; offsets count from the start of the data and cover it without holes or overlaps.
 */
import { DiffusionPipeError } from '../core/errors.ts';
import { type DType, type Shape, sizeOf } from '../core/tensor.ts';
import { jsonKeys } from './json-keys.ts';

/** Bits of one element of every type the format knows. */
const bitsOf: Readonly<Record<string, number>> = {
	F64: 64,
	F32: 32,
	F16: 16,
	BF16: 16,
	F8_E5M2: 8,
	F8_E4M3: 8,
	F8_E8M0: 8,
	F8_E4M3FNUZ: 8,
	F8_E5M2FNUZ: 8,
	F6_E2M3: 6,
	F6_E3M2: 6,
	F4: 4,
	C64: 64,
	I64: 64,
	I32: 32,
	I16: 16,
	I8: 8,
	U64: 64,
	U32: 32,
	U16: 16,
	U8: 8,
	BOOL: 8,
};

/** The format's name of each element type we hold. */
export const safetensorsName = {
	float64: 'F64',
	float32: 'F32',
	float16: 'F16',
	bfloat16: 'BF16',
	int64: 'I64',
	int32: 'I32',
	int8: 'I8',
	uint8: 'U8',
	bool: 'BOOL',
} as const satisfies Record<DType, string>;

const dtypeOfName = new Map<string, DType>(Object.entries(safetensorsName).map(([dtype, name]) => [name, dtype as DType]));

/** The longest header accepted, as in the format's own reader. */
export const maxHeaderBytes = 100_000_000;

/** What the header says of one tensor. */
export interface TensorInfo {
	readonly name: string;
	/** The file's word for the element type, as `BF16` or `F8_E4M3`. */
	readonly storedType: string;
	/** The element type we hold it as; undefined when we hold none (it can be listed but not read). */
	readonly dtype: DType | undefined;
	readonly shape: Shape;
	/** First byte, counted from the start of the data. */
	readonly begin: number;
	/** Byte after the last. */
	readonly end: number;
}

/** A checked header. */
export interface Header {
	/** By name, in the order of the header. */
	readonly tensors: ReadonlyMap<string, TensorInfo>;
	readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Parses and checks a header.
 * @param bytes the header, without its length in front
 * @param dataBytes bytes of the file after the header
 * @param path the file, for messages
 * @throws DiffusionPipeError of kind 'input' with the reason the file is malformed
 */
export function parseHeader(bytes: Uint8Array, dataBytes: number, path: string): Header {
	const fail = (what: string, expected?: string, found?: string): never => malformed(path, what, expected, found);
	const raw = parseJsonObject(bytes, fail);
	const tensors = new Map<string, TensorInfo>();
	let metadata: Record<string, string> = {};
	for (const [name, value] of raw) {
		if (name === '__metadata__') metadata = parseMetadata(value, fail);
		else tensors.set(name, parseInfo(name, value, fail));
	}
	checkCover(tensors.values(), dataBytes, fail);
	return { tensors, metadata };
}

/** The error of a malformed safetensors file. */
export function malformed(path: string, what: string, expected?: string, found?: string): never {
	throw new DiffusionPipeError('input', `not a valid safetensors file: ${what}`, {
		place: path,
		...(expected === undefined ? {} : { expected }),
		...(found === undefined ? {} : { found }),
		hint: 'fetch or write the file again',
	});
}

/** The length field and header of a file of tensors laid out one after the other, padded so that the data starts at a multiple of 8. */
export function formatHeader(
	tensors: readonly { name: string; dtype: DType; shape: Shape; bytes: number }[],
	metadata: Readonly<Record<string, string>> | undefined,
): Uint8Array {
	const entries: [string, unknown][] = metadata === undefined ? [] : [['__metadata__', metadata]];
	let begin = 0;
	for (const { name, dtype, shape, bytes } of tensors) {
		entries.push([name, { dtype: safetensorsName[dtype], shape, data_offsets: [begin, begin + bytes] }]);
		begin += bytes;
	}
	// Built by hand: an object would move names like "0" to the front.
	const json = new TextEncoder().encode(
		`{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`,
	);
	const length = Math.ceil(json.length / 8) * 8;
	const out = new Uint8Array(8 + length).fill(0x20, 8);
	new DataView(out.buffer).setBigUint64(0, BigInt(length), true);
	out.set(json, 8);
	return out;
}

type Fail = (what: string, expected?: string, found?: string) => never;

/** The entries of the header in their order. */
function parseJsonObject(bytes: Uint8Array, fail: Fail): [string, unknown][] {
	let text: string;
	let raw: unknown;
	try {
		text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
		raw = JSON.parse(text);
	} catch (error) {
		return fail('the header is not JSON', 'a JSON object in UTF-8', error instanceof Error ? error.message : String(error));
	}
	if (!isObject(raw)) return fail('the header is not an object', 'a JSON object', short(raw));
	const { top, duplicate } = jsonKeys(text);
	if (duplicate !== undefined) return fail('a name is given twice', 'every name once', JSON.stringify(duplicate));
	return top.map((name) => [name, raw[name]]);
}

function parseMetadata(value: unknown, fail: Fail): Record<string, string> {
	if (!isObject(value)) return fail('__metadata__ is not an object', 'an object of strings', short(value));
	for (const [key, text] of Object.entries(value)) {
		if (typeof text !== 'string') fail(`__metadata__ ${JSON.stringify(key)} is not a string`, 'a string', short(text));
	}
	return value as Record<string, string>;
}

function parseInfo(name: string, value: unknown, fail: Fail): TensorInfo {
	const of = `of tensor ${JSON.stringify(name)}`;
	if (!isObject(value)) return fail(`the entry ${of} is not an object`, '{ dtype, shape, data_offsets }', short(value));
	const { dtype: storedType, shape, data_offsets: offsets } = value;
	if (typeof storedType !== 'string' || !Object.hasOwn(bitsOf, storedType)) {
		return fail(`unknown dtype ${of}`, Object.keys(bitsOf).join(' '), short(storedType));
	}
	if (!isNaturals(shape)) return fail(`the shape ${of} is not a list of whole numbers`, 'whole numbers, zero or more', short(shape));
	if (!isNaturals(offsets) || offsets.length !== 2) {
		return fail(`the data_offsets ${of} are not two whole numbers`, '[begin, end]', short(offsets));
	}
	const [begin, end] = offsets as [number, number];
	const bits = sizeOf(shape) * bitsOf[storedType]!;
	if (!Number.isSafeInteger(bits)) return fail(`the shape ${of} is too large`, 'a size that fits a file', short(shape));
	if (bits % 8 !== 0 || end - begin !== bits / 8) {
		return fail(`the size ${of} is wrong`, `${bits / 8} bytes for ${storedType}[${shape.join(',')}]`, `${end - begin} bytes`);
	}
	return { name, storedType, dtype: dtypeOfName.get(storedType), shape, begin, end };
}

function checkCover(tensors: Iterable<TensorInfo>, dataBytes: number, fail: Fail): void {
	const inOrder = [...tensors].sort((a, b) => a.begin - b.begin || a.end - b.end);
	let end = 0;
	let last = 'the start';
	for (const tensor of inOrder) {
		const name = JSON.stringify(tensor.name);
		if (tensor.begin < end) fail(`tensors ${last} and ${name} overlap`, `offset ${end} or more`, `${tensor.begin}`);
		if (tensor.begin > end) fail(`a hole between ${last} and tensor ${name}`, `offset ${end}`, `${tensor.begin}`);
		end = tensor.end;
		last = name;
	}
	if (end > dataBytes) fail(`the file is cut off: the data of ${last} ends after the file`, `${end} bytes of data`, `${dataBytes}`);
	if (end < dataBytes) fail('bytes after the last tensor', `${end} bytes of data`, `${dataBytes}`);
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isNaturals(value: unknown): value is number[] {
	return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function short(value: unknown): string {
	const text = JSON.stringify(value) ?? 'nothing';
	return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
