/** @file A reader of float32 safetensors fixtures, so that tests of other folders do not depend on ours. */
import { readFileSync } from 'node:fs';

/** The float32 tensors of a safetensors file by name. */
export function readFloats(path: string | URL): Map<string, { shape: number[]; data: Float32Array }> {
	const file = readFileSync(path);
	const dataStart = 8 + Number(file.readBigUInt64LE(0));
	const header = JSON.parse(file.toString('utf8', 8, dataStart)) as Record<string, { shape: number[]; data_offsets: [number, number] }>;
	const tensors = new Map<string, { shape: number[]; data: Float32Array }>();
	for (const [name, { shape, data_offsets }] of Object.entries(header)) {
		if (name === '__metadata__') continue;
		const bytes = Uint8Array.from(file.subarray(dataStart + data_offsets[0], dataStart + data_offsets[1]));
		tensors.set(name, { shape, data: new Float32Array(bytes.buffer) });
	}
	return tensors;
}
