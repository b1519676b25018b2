/**
 * @file LoRA weights as diffusers saves and reads them: `pytorch_lora_weights.safetensors` with `<part>.<module>.lora_A.weight` and `lora_B.weight`, and
 * rank and alpha in the file's metadata. Older files with `lora.down.weight` and `lora.up.weight`, or with a tensor `alpha` per module, are read too.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import { readElement, type Shape, sizeOf, type Tensor } from '../core/tensor.ts';
import { toFloat32 } from './half.ts';
import { type NamedTensor, openSafetensors, type TensorReader, writeSafetensors } from './safetensors.ts';

/** Name of the file in a folder. */
export const loraFileName = 'pytorch_lora_weights.safetensors';

/** Key of the file's metadata under which diffusers keeps the adapter's config as JSON, each key with the part before it. */
const metadataKey = 'lora_adapter_metadata';

/** The model of a pipeline that is adapted. */
export type LoraPart = 'unet' | 'transformer';

/** What the file says of the adapter beside its matrices. */
export interface LoraSettings {
	readonly rank: number;
	readonly alpha: number;
	readonly modules: readonly string[];
}

/** Writes the matrices, named `<module>.lora_A.weight` and `<module>.lora_B.weight`, as the file of `part` in the folder `dir`. */
export async function writeLora(
	dir: string,
	part: LoraPart,
	{ rank, alpha, modules }: LoraSettings,
	tensors: readonly NamedTensor[],
): Promise<void> {
	const config = { peft_type: 'LORA', r: rank, lora_alpha: alpha, target_modules: modules, bias: 'none' };
	const prefixed = Object.fromEntries(Object.entries(config).map(([key, value]) => [`${part}.${key}`, value]));
	await writeSafetensors(
		join(dir, loraFileName),
		tensors.map((t) => ({ ...t, name: `${part}.${t.name}` })),
		{ format: 'pt', [metadataKey]: JSON.stringify(prefixed) },
	);
}

/** One adapted projection of a file. */
export interface LoraModule {
	/** [rank, in, ...kernel]. */
	readonly a: Tensor<'float32'>;
	/** [out, rank, ...]. */
	readonly b: Tensor<'float32'>;
	/** alpha / rank. */
	readonly scale: number;
}

/** A LoRA in memory. */
export interface Lora {
	/** The file it is from, for errors. */
	readonly file: string;
	/** By path of the projection. */
	readonly modules: ReadonlyMap<string, LoraModule>;
}

const endings = [
	[/\.lora_A(?:\.default)?\.weight$/, 'a'],
	[/\.lora_B(?:\.default)?\.weight$/, 'b'],
	[/\.lora\.down\.weight$/, 'a'],
	[/\.lora\.up\.weight$/, 'b'],
	[/\.alpha$/, 'alpha'],
] as const;

/**
 * Reads the LoRA of `part` from `place`, a file or a folder with `pytorch_lora_weights.safetensors`. Matrices of other parts, as of text encoders, are
 * refused: pictures would be others than those the LoRA was made for.
 * @throws DiffusionPipeError of kind 'input' when there is no such file, or it holds something else or half of a module
 */
export async function readLora(place: string, part: LoraPart): Promise<Lora> {
	const isFolder = await stat(place).then(
		(s) => s.isDirectory(),
		() => false,
	);
	const file = isFolder ? join(place, loraFileName) : place;
	const reader = await openSafetensors(file);
	try {
		const found = new Map<string, { a?: Tensor<'float32'>; b?: Tensor<'float32'>; alpha?: number }>();
		for (const name of reader.names) {
			const [ending, kind] = endings.find(([pattern]) => pattern.test(name)) ?? strange(file, name, part);
			if (!name.startsWith(`${part}.`)) strange(file, name, part);
			const path = name.slice(part.length + 1).replace(ending, '');
			const module = found.get(path) ?? {};
			found.set(path, module);
			const read = await reader.read(name);
			if (kind === 'alpha') module.alpha = readElement(read.dtype, read.data, 0);
			else module[kind] = toFloat32(read);
		}
		const alpha = alphaOf(reader, part);
		const modules = new Map<string, LoraModule>();
		for (const [path, { a, b, alpha: own }] of found) {
			if (!a || !b || a.shape.length < 2 || b.shape.length < 2 || a.shape[0] !== b.shape[1]) {
				throw new DiffusionPipeError('input', 'the two matrices of a module do not fit together', {
					place: `${file}: ${part}.${path}`,
					expected: 'lora_A.weight [rank, in] and lora_B.weight [out, rank]',
					found: `${a ? `[${a.shape.join(', ')}]` : 'nothing'} and ${b ? `[${b.shape.join(', ')}]` : 'nothing'}`,
				});
			}
			const rank = a.shape[0]!;
			modules.set(path, { a, b, scale: (own ?? alpha(path) ?? rank) / rank });
		}
		return { file, modules };
	} finally {
		await reader.close();
	}
}

function strange(file: string, name: string, part: LoraPart): never {
	throw new DiffusionPipeError('input', 'holds a tensor that is no LoRA of this model', {
		place: file,
		expected: `${part}.<module>.lora_A.weight and ${part}.<module>.lora_B.weight, as diffusers saves them`,
		found: name,
	});
}

/** Alpha by module from the metadata; undefined where the file does not say, which means alpha = rank. */
function alphaOf(reader: TensorReader, part: LoraPart): (path: string) => number | undefined {
	let config: Readonly<Record<string, unknown>> = {};
	try {
		const parsed: unknown = JSON.parse(reader.metadata[metadataKey] ?? '{}');
		if (typeof parsed === 'object' && parsed !== null) config = parsed as Readonly<Record<string, unknown>>;
	} catch {
		// Metadata of another kind says nothing of alpha.
	}
	const whole = config[`${part}.lora_alpha`];
	const patterns = config[`${part}.alpha_pattern`];
	const own = typeof patterns === 'object' && patterns !== null ? Object.entries(patterns as Readonly<Record<string, unknown>>) : [];
	return (path) => {
		const special = own.find(([pattern]) => path === pattern || path.endsWith(`.${pattern}`))?.[1];
		if (typeof special === 'number') return special;
		return typeof whole === 'number' ? whole : undefined;
	};
}

/**
 * `weights` with `lora` added: each adapted weight reads as W + strength * alpha / rank * B A, in float32.
 * @param strength 1 as trained, 0 not at all
 * @throws DiffusionPipeError of kind 'input' when the LoRA is of a model with other modules or sizes
 */
export function mergedWeights(weights: TensorReader, lora: Lora, strength = 1): TensorReader {
	const byName = new Map([...lora.modules].map(([path, module]) => [`${path}.weight`, module]));
	for (const [name, { a, b }] of byName) checkFits(weights, lora.file, name, a.shape, b.shape);
	const merged = (name: string, read: Tensor): Tensor => {
		const module = byName.get(name);
		return module ? addProduct(toFloat32(read), module, strength) : read;
	};
	const info = (name: string) => {
		const own = weights.info(name);
		return byName.has(name) ? { ...own, dtype: 'float32' as const } : own;
	};
	return {
		names: weights.names,
		metadata: weights.metadata,
		has: (name) => weights.has(name),
		info,
		read: async (name) => merged(name, await weights.read(name)),
		readSync: (name) => merged(name, weights.readSync(name)),
		close: () => weights.close(),
	};
}

function checkFits(weights: TensorReader, file: string, name: string, a: Shape, b: Shape): void {
	const shape = weights.has(name) ? weights.info(name).shape : undefined;
	// Of [out, in, ...kernel], where A has the kernel and B reads single positions.
	if (shape && shape[0] === b[0] && sizeOf(shape.slice(1)) === sizeOf(a.slice(1)) && sizeOf(b.slice(2)) === 1) return;
	throw new DiffusionPipeError('input', 'the LoRA is not of this model', {
		place: `${file}: ${name}`,
		expected: shape ? `matrices of a weight [${shape.join(', ')}]` : 'modules that the model has',
		found: `A [${a.join(', ')}], B [${b.join(', ')}]`,
	});
}

/** W + strength * scale * B A, with sums in float64 and rows of A walked in order. */
function addProduct(weight: Tensor<'float32'>, { a, b, scale }: LoraModule, strength: number): Tensor<'float32'> {
	const [outer, rank] = [b.shape[0]!, a.shape[0]!];
	const inner = a.data.length / rank;
	const data = new Float32Array(weight.data.length);
	const row = new Float64Array(inner);
	for (let o = 0; o < outer; o++) {
		row.set(weight.data.subarray(o * inner, (o + 1) * inner));
		for (let r = 0; r < rank; r++) {
			const factor = strength * scale * b.data[o * rank + r]!;
			if (factor === 0) continue;
			for (let i = 0; i < inner; i++) row[i]! += factor * a.data[r * inner + i]!;
		}
		data.set(row, o * inner);
	}
	return { dtype: 'float32', shape: weight.shape, data };
}
