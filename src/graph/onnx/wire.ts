/** @file Protobuf's wire format: encoding in two passes, decoding with every bound checked (protobuf.dev, "Encoding"). */
import { DiffusionPipeError } from '../../core/errors.ts';

/** Deepest nesting of messages that is followed. ONNX needs six; a limit keeps a hostile file from exhausting the stack. */
const maxDepth = 32;

const varintType = 0;
const fixed64Type = 1;
const bytesType = 2;
const fixed32Type = 5;

/** One field to write. `size` counts its tag and length too, so that a whole message is laid out before a byte is written. */
export type OutField =
	| { readonly kind: 'varint'; readonly number: number; readonly size: number; readonly value: bigint }
	| { readonly kind: 'float'; readonly number: number; readonly size: number; readonly value: number }
	| { readonly kind: 'bytes'; readonly number: number; readonly size: number; readonly data: Uint8Array }
	| {
			readonly kind: 'message';
			readonly number: number;
			readonly size: number;
			readonly length: number;
			readonly fields: readonly OutField[];
	  };

function varintSize(value: bigint): number {
	let size = 1;
	for (let rest = BigInt.asUintN(64, value) >> 7n; rest > 0n; rest >>= 7n) size++;
	return size;
}

const tagSize = (number: number) => varintSize(BigInt(number) << 3n);

/** A varint field: int32, int64 or an enumeration. Negative numbers take ten bytes, as protobuf has it. */
export function intField(number: number, value: number | bigint): OutField {
	const whole = BigInt(value);
	return { kind: 'varint', number, size: tagSize(number) + varintSize(whole), value: whole };
}

/** A float32 field. */
export function floatField(number: number, value: number): OutField {
	return { kind: 'float', number, size: tagSize(number) + 4, value };
}

/** A bytes field; `data` is kept by reference until the message is encoded. */
export function bytesField(number: number, data: Uint8Array): OutField {
	return { kind: 'bytes', number, size: tagSize(number) + varintSize(BigInt(data.length)) + data.length, data };
}

const utf8 = new TextEncoder();

/** A string field, in UTF-8. */
export function stringField(number: number, text: string): OutField {
	return bytesField(number, utf8.encode(text));
}

/** A field that holds a message. */
export function messageField(number: number, fields: readonly OutField[]): OutField {
	const length = sizeOfFields(fields);
	return { kind: 'message', number, size: tagSize(number) + varintSize(BigInt(length)) + length, length, fields };
}

/** Bytes that a message of these fields takes. */
export function sizeOfFields(fields: readonly OutField[]): number {
	let size = 0;
	for (const field of fields) size += field.size;
	return size;
}

/** The bytes of a message: one allocation of the final size, every payload copied once. */
export function encodeMessage(fields: readonly OutField[]): Uint8Array {
	const out = new Uint8Array(sizeOfFields(fields));
	const view = new DataView(out.buffer);
	let at = 0;
	const varint = (value: bigint) => {
		let rest = BigInt.asUintN(64, value);
		for (; rest > 127n; rest >>= 7n) out[at++] = Number(rest & 127n) | 128;
		out[at++] = Number(rest);
	};
	const tag = (number: number, type: number) => varint(BigInt(number * 8 + type));
	const write = (field: OutField): void => {
		switch (field.kind) {
			case 'varint':
				tag(field.number, varintType);
				varint(field.value);
				break;
			case 'float':
				tag(field.number, fixed32Type);
				view.setFloat32(at, field.value, true);
				at += 4;
				break;
			case 'bytes':
				tag(field.number, bytesType);
				varint(BigInt(field.data.length));
				out.set(field.data, at);
				at += field.data.length;
				break;
			case 'message':
				tag(field.number, bytesType);
				varint(BigInt(field.length));
				for (const inner of field.fields) write(inner);
		}
	};
	for (const field of fields) write(field);
	return out;
}

/** A message inside a file: a range of its bytes. */
export interface Message {
	readonly bytes: Uint8Array;
	readonly start: number;
	readonly end: number;
	readonly depth: number;
	/** What is being read, for errors. */
	readonly place: string;
}

/** One field as found: its payload is the range [start, end) of the file. */
export interface InField {
	readonly number: number;
	readonly type: number;
	readonly start: number;
	readonly end: number;
	readonly message: Message;
}

/** The outermost message of a file. */
export function wholeMessage(file: Uint8Array, place: string): Message {
	// A plain array even where a subclass is given: Node's Buffer has a `slice` that does not copy.
	const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
	return { bytes, start: 0, end: bytes.length, depth: 0, place };
}

function fail(message: Message, offset: number, what: string, expected?: string): never {
	throw new DiffusionPipeError('input', what, {
		place: `${message.place}, byte ${offset}`,
		...(expected === undefined ? {} : { expected }),
		hint: 'the file is cut short, damaged or of another format: get it again',
	});
}

/** End of the varint at `at`, within `end`. */
function skipVarint(message: Message, at: number, end: number): number {
	for (let i = at; i < end && i < at + 10; i++) if (message.bytes[i]! < 128) return i + 1;
	return fail(message, at, at + 10 <= end ? 'a varint is longer than ten bytes' : 'a varint is cut short');
}

/** The varint in [start, end), as 64 bits with sign. */
function varintBits({ bytes }: Message, start: number, end: number): bigint {
	let low = 0;
	let high = 0;
	// 28 bits fit a small integer; what lies above is rare (negative numbers) and goes through the second half.
	for (let i = start, shift = 0; i < end; i++, shift += 7) {
		const part = bytes[i]! & 127;
		if (shift < 28) low |= part << shift;
		else high += part * 2 ** (shift - 28);
	}
	return high === 0 ? BigInt(low) : BigInt.asIntN(64, (BigInt(high) << 28n) | BigInt(low));
}

/** Reads a tag or a length, which must be a small non-negative number. */
function smallVarint(message: Message, start: number, end: number): number {
	const value = varintBits(message, start, end);
	return value >= 0n && value <= 0xffffffffn ? Number(value) : fail(message, start, 'a tag or length is out of range');
}

/** Calls the handler of each field of a message, in the file's order; fields without one are skipped. Throws an input error at malformed bytes. */
export function readFields(message: Message, handlers: Readonly<Record<number, (field: InField) => void>>): void {
	const { end } = message;
	for (let at = message.start; at < end; ) {
		const afterTag = skipVarint(message, at, end);
		const tag = smallVarint(message, at, afterTag);
		const number = tag >>> 3;
		const type = tag & 7;
		let start = afterTag;
		let stop: number;
		if (type === varintType) stop = skipVarint(message, start, end);
		else if (type === fixed64Type) stop = start + 8;
		else if (type === fixed32Type) stop = start + 4;
		else if (type === bytesType) {
			const afterLength = skipVarint(message, start, end);
			stop = afterLength + smallVarint(message, start, afterLength);
			start = afterLength;
		} else fail(message, at, `wire type ${type} is not used by ONNX`, '0, 1, 2 or 5');
		if (number === 0) fail(message, at, 'field number 0 does not exist');
		if (stop > end)
			fail(message, at, `field ${number} reaches ${stop - end} bytes past the end of its message`, `at most ${end - start} bytes`);
		handlers[number]?.({ number, type, start, end: stop, message });
		at = stop;
	}
}

function expectType(field: InField, ...types: number[]): void {
	if (!types.includes(field.type))
		fail(field.message, field.start, `field ${field.number} has wire type ${field.type}`, types.join(' or '));
}

/** A varint as 64 bits with sign. */
export function readBigInt(field: InField): bigint {
	expectType(field, varintType);
	return varintBits(field.message, field.start, field.end);
}

/** A varint as a number; fails beyond 2^53. */
export function readInt(field: InField): number {
	const value = Number(readBigInt(field));
	return Number.isSafeInteger(value)
		? value
		: fail(field.message, field.start, `field ${field.number} holds ${value}`, 'a whole number below 2^53');
}

/** A float32. */
export function readFloat(field: InField): number {
	expectType(field, fixed32Type);
	return dataView(field).getFloat32(0, true);
}

function dataView({ message: { bytes }, start, end }: InField): DataView {
	return new DataView(bytes.buffer, bytes.byteOffset + start, end - start);
}

/** Payload of a length-delimited field, by reference. */
export function readBytes(field: InField): Uint8Array {
	expectType(field, bytesType);
	return field.message.bytes.subarray(field.start, field.end);
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A string; fails when it is not UTF-8. */
export function readString(field: InField): string {
	const bytes = readBytes(field);
	try {
		return strictUtf8.decode(bytes);
	} catch {
		return fail(field.message, field.start, `field ${field.number} is not UTF-8 text`);
	}
}

/** The message a field holds. */
export function readMessage(field: InField): Message {
	expectType(field, bytesType);
	const depth = field.message.depth + 1;
	if (depth > maxDepth) fail(field.message, field.start, `messages are nested more than ${maxDepth} deep`);
	return { ...field.message, start: field.start, end: field.end, depth };
}

/** Appends the integers of a repeated field, packed or not. */
export function readBigInts(field: InField, into: bigint[]): void {
	expectType(field, varintType, bytesType);
	if (field.type === varintType) {
		into.push(readBigInt(field));
		return;
	}
	for (let at = field.start; at < field.end; ) {
		const next = skipVarint(field.message, at, field.end);
		into.push(varintBits(field.message, at, next));
		at = next;
	}
}

/** Appends the float32 or float64 numbers of a repeated field, packed or not. */
export function readFloats(field: InField, into: number[], bytes: 4 | 8 = 4): void {
	expectType(field, bytes === 4 ? fixed32Type : fixed64Type, bytesType);
	const view = dataView(field);
	if (view.byteLength % bytes !== 0)
		fail(field.message, field.start, `field ${field.number} has ${view.byteLength} bytes`, `a multiple of ${bytes}`);
	for (let at = 0; at < view.byteLength; at += bytes) into.push(bytes === 4 ? view.getFloat32(at, true) : view.getFloat64(at, true));
}
