/** @file The parts of a pipeline folder: opened and checked before any work, each run on devices of its own that are closed when it is done. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../core/errors.ts';
import type { Shape, TypeShape } from '../core/tensor.ts';
import { type Forward, openForward } from '../engine/local/forward.ts';
import { toFloat32 } from '../io/half.ts';
import { type PipelineIndex, readModelFolder } from '../io/model-folder.ts';
import type { TensorReader } from '../io/safetensors.ts';
import { type Chain, traceChain } from '../nn/chain.ts';

/** A model of a pipeline. Whoever opened it closes `weights`. */
export interface ModelPart {
	/** As `unet`. */
	readonly name: string;
	readonly className: string;
	readonly folder: string;
	/** Path of the config, for errors. */
	readonly place: string;
	readonly config: unknown;
	readonly weights: TensorReader;
}

/** Devices to run parts on. */
export interface RunOptions {
	readonly devices: number;
	/** Threads inside one operator. */
	readonly threads: number;
}

/** Class of the part `name` in `model_index.json`. Throws an input error when the pipeline has no such part. */
export function partClass(folder: string, index: PipelineIndex, name: string): string {
	const part = index.parts[name];
	if (part) return part[1];
	const there = Object.keys(index.parts).filter((key) => index.parts[key]);
	throw new DiffusionPipeError('input', `${index.className} has no ${name}`, {
		place: join(folder, 'model_index.json'),
		expected: `a part ${name}: [library, class]`,
		found: there.length === 0 ? 'no parts' : there.join(', '),
		hint: 'get the whole pipeline folder again',
	});
}

/** Name of the part that denoises. Throws an input error when there is none. */
export function denoiserName(folder: string, index: PipelineIndex): 'unet' | 'transformer' {
	if (index.parts.transformer) return 'transformer';
	if (index.parts.unet) return 'unet';
	throw new DiffusionPipeError('input', 'has no denoiser', {
		place: join(folder, 'model_index.json'),
		expected: 'a part transformer or unet',
		found: Object.keys(index.parts).join(', '),
	});
}

/** Opens a model of the pipeline; a checkpoint's averaged weights are taken when it has them. */
export async function openPart(folder: string, index: PipelineIndex, name: string): Promise<ModelPart> {
	const className = partClass(folder, index, name);
	const averaged = join(folder, `${name}_ema`);
	const own = (await exists(join(averaged, 'config.json'))) ? averaged : join(folder, name);
	return openModel(own, name, className);
}

/** Opens the model folder `folder`. */
export async function openModel(folder: string, name: string, className: string): Promise<ModelPart> {
	const { config, weights } = await readModelFolder(folder);
	return { name, className, folder, place: join(folder, 'config.json'), config, weights };
}

/** True when there is something at `path`. */
export function exists(path: string): Promise<boolean> {
	return access(path).then(
		() => true,
		() => false,
	);
}

/** Where the values of a chain's parameters are. */
export interface WeightSource {
	/** For errors. */
	readonly folder: string;
	readonly weights: Pick<TensorReader, 'has' | 'info' | 'read'>;
}

/**
 * Checks that the weights hold every parameter of `chain` in its shape, and gives the type of each chain output for one sample.
 * @throws DiffusionPipeError of kind 'input' naming the first that does not fit and how many more there are
 */
export function checkWeights(chain: Chain, { folder, weights }: WeightSource): Readonly<Record<string, TypeShape>> {
	const trace = traceChain(chain, 1);
	const fits = (name: string, shape: Shape) => weights.has(name) && weights.info(name).shape.join() === shape.join();
	const wrong = [...trace.parameters.values()].filter((p) => !fits(p.name, p.shape));
	const [first] = wrong;
	if (first) {
		const more = wrong.length > 1 ? `, and ${wrong.length - 1} more of ${trace.parameters.size}` : '';
		throw new DiffusionPipeError('input', `the weights do not fit the config: ${first.name}${more}`, {
			place: folder,
			expected: `[${first.shape.join(', ')}]`,
			found: weights.has(first.name) ? `[${weights.info(first.name).shape.join(', ')}]` : 'no tensor of that name',
			hint: 'config.json and weights must be from one version of the model',
		});
	}
	return Object.fromEntries(chain.outputs.map((name, i) => [name, trace.definitions.get(trace.outputs[i]!)!]));
}

/** Rows that one device computes at once: many small ones, few large ones. Larger batches gain nothing on a core and cost memory. */
export function rowsAtOnce(rows: number, devices: number, elementsPerRow: number): number {
	return Math.max(1, Math.min(Math.ceil(rows / devices), 64, Math.floor(2 ** 16 / elementsPerRow)));
}

/**
 * Runs `use` with `chain` compiled and its weights (which `checkWeights` has seen) read, for `rows` rows shared by the devices, and closes the devices whatever happens.
 * `elementsPerRow` of the largest input tells how many rows a device takes at once.
 */
export async function withForward<T>(
	chain: Chain,
	source: WeightSource,
	{ devices, threads, rows, elementsPerRow }: RunOptions & { readonly rows: number; readonly elementsPerRow: number },
	use: (forward: Forward) => Promise<T>,
): Promise<T> {
	const used = Math.min(devices, rows);
	// The threads of devices that have no row help the others.
	const shared = threads * Math.floor(devices / used);
	const forward = await openForward(chain, { devices: used, threads: shared, batch: rowsAtOnce(rows, used, elementsPerRow) });
	try {
		await forward.setWeights(async (name) => toFloat32(await source.weights.read(name)).data);
		return await use(forward);
	} finally {
		await forward.close();
	}
}
