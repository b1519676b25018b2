/**
 * @file TensorBoard events as bytes: the few protobuf messages of event.proto and summary.proto that we write, and the framing of TFRecord files.
 *
 * Event { 1 wall_time double, 2 step int64, 3 file_version string, 5 summary, 7 session_log }; Summary { 1 value* { 1 tag, 2 simple_value float,
 * 4 image { 1 height, 2 width, 3 colorspace, 4 encoded_image_string } } }; SessionLog { 1 status, START = 1 }.
 */
import { crc32c } from './crc32c.ts';

/** A PNG to show, with the size and channels (1, 3 or 4) it has. */
export interface EventImage {
	readonly png: Uint8Array;
	readonly width: number;
	readonly height: number;
	readonly channels: number;
}

/** One named value of a summary. */
export type SummaryValue = { readonly tag: string; readonly scalar: number } | { readonly tag: string; readonly image: EventImage };

/** What an event can hold. `restart` makes TensorBoard drop what earlier files say of this step and later ones. */
export type EventContent = { readonly fileVersion: string } | { readonly restart: true } | { readonly summary: readonly SummaryValue[] };

/** The bytes of an Event message. `wallTime` in seconds since 1970. */
export function encodeEvent(wallTime: number, step: number, content: EventContent): Uint8Array {
	const fields = [double(1, wallTime), varint(2, step)];
	if ('fileVersion' in content) fields.push(text(3, content.fileVersion));
	else if ('summary' in content) fields.push(bytes(5, Buffer.concat(content.summary.map((value) => bytes(1, encodeValue(value))))));
	else fields.push(bytes(7, varint(1, 1)));
	return Buffer.concat(fields);
}

/** One record of a TFRecord file: length, its checksum, the payload, its checksum. */
export function frameRecord(payload: Uint8Array): Uint8Array {
	const out = new Uint8Array(payload.length + 16);
	const view = new DataView(out.buffer);
	view.setBigUint64(0, BigInt(payload.length), true);
	view.setUint32(8, maskedCrc(out.subarray(0, 8)), true);
	out.set(payload, 12);
	view.setUint32(12 + payload.length, maskedCrc(payload), true);
	return out;
}

/** Checksums are stored rotated and shifted, because a checksum of data that holds its own checksum is weak. */
function maskedCrc(data: Uint8Array): number {
	const crc = crc32c(data);
	return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function encodeValue(value: SummaryValue): Uint8Array {
	if ('scalar' in value) return Buffer.concat([text(1, value.tag), float(2, value.scalar)]);
	const { png, width, height, channels } = value.image;
	const image = Buffer.concat([varint(1, height), varint(2, width), varint(3, channels), bytes(4, png)]);
	return Buffer.concat([text(1, value.tag), bytes(4, image)]);
}

/** Protobuf wire types. */
const wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;

function varintBytes(value: number): number[] {
	const out: number[] = [];
	// Division, not shifts: steps may be larger than 32 bits.
	for (let rest = value; ; rest = Math.floor(rest / 128)) {
		if (rest < 128) return [...out, rest];
		out.push((rest % 128) | 128);
	}
}

function varint(field: number, value: number): Uint8Array {
	return Uint8Array.from([...varintBytes(field * 8 + wire.varint), ...varintBytes(value)]);
}

function double(field: number, value: number): Uint8Array {
	const out = new Uint8Array(9);
	out[0] = field * 8 + wire.fixed64;
	new DataView(out.buffer).setFloat64(1, value, true);
	return out;
}

function float(field: number, value: number): Uint8Array {
	const out = new Uint8Array(5);
	out[0] = field * 8 + wire.fixed32;
	new DataView(out.buffer).setFloat32(1, value, true);
	return out;
}

function bytes(field: number, value: Uint8Array): Uint8Array {
	return Buffer.concat([Uint8Array.from([...varintBytes(field * 8 + wire.bytes), ...varintBytes(value.length)]), value]);
}

function text(field: number, value: string): Uint8Array {
	return bytes(field, new TextEncoder().encode(value));
}
