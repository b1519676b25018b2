/** @file A chain run forward on devices for any number of samples: what evaluation and frozen parts need. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { makeArray, type Shape, sizeOf, type Tensor } from '../../core/tensor.ts';
import { type Chain, traceChain } from '../../nn/chain.ts';
import type { Parameter } from '../../nn/context.ts';
import { lowerForward } from '../../program/lower.ts';
import { verifyProgram } from '../../program/verify.ts';
import { createLocalEngine } from './engine.ts';

export interface ForwardOptions {
	/** Samples that one device computes at once. Default 16. */
	readonly batch?: number;
	/** Copies of the chain, each on its share of the samples. Default 1. */
	readonly devices?: number;
	/** Threads inside one operator. Default 1. */
	readonly threads?: number;
	/** Most weights in one array, unless one parameter has more. Default 2^30, 4.3 GB: JavaScript has no arrays of more than 2^32 elements. */
	readonly bankElements?: number;
}

/** A compiled chain with its weights. */
export interface Forward {
	readonly parameters: readonly Parameter[];
	/** Writes every parameter; `read` gives its values. */
	setWeights(read: (name: string, shape: Shape) => Float32Array | Promise<Float32Array>): Promise<void>;
	/** The chain's outputs by name for all samples of `inputs` (one tensor per chain input, [samples, ...]), whose number need not fit the batch. */
	run(inputs: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>>;
	close(): Promise<void>;
}

/** Compiles `chain` and starts its devices; its weights are zero until they are set. The caller closes it. */
export async function openForward(
	chain: Chain,
	{ batch = 16, devices = 1, threads = 1, bankElements = 2 ** 30 }: ForwardOptions = {},
): Promise<Forward> {
	const compiled = lowerForward(traceChain(chain, batch), { devices, microBatchSize: batch, bankElements });
	verifyProgram(compiled.program);
	const engine = await createLocalEngine(compiled, { threads });
	const rows = devices * batch;
	return {
		parameters: compiled.banks.flatMap(({ parameters }) => parameters),
		async setWeights(read) {
			for (const { bank, parameters } of compiled.banks) {
				for (const p of parameters) {
					const values = await read(p.name, p.shape);
					for (const { device } of compiled.program.devices) engine.bank(device, bank, 'parameter').set(values, p.offset);
				}
			}
		},
		async run(inputs) {
			const count = samplesOf(chain, inputs);
			const results = new Map<string, Tensor>();
			for (let from = 0; from < count; from += rows) {
				const feeds = Object.fromEntries(Object.keys(chain.inputs).map((name) => [name, rowsOf(inputs[name]!, from, rows)]));
				const { fetched } = await engine.run('iteration', feeds);
				for (const [name, part] of fetched) {
					const shape = [count, ...part.shape.slice(1)];
					const whole = results.get(name) ?? { dtype: part.dtype, shape, data: makeArray(part.dtype, sizeOf(shape)) };
					results.set(name, whole);
					copyRows(part, 0, whole, from, Math.min(rows, count - from));
				}
			}
			return Object.fromEntries(results);
		},
		close: () => engine.close(),
	};
}

/** The number of samples, the same in every input. */
function samplesOf(chain: Chain, inputs: Readonly<Record<string, Tensor>>): number {
	let count: number | undefined;
	for (const [name, { shape, dtype }] of Object.entries(chain.inputs)) {
		const given = inputs[name];
		const found = given === undefined ? 'nothing' : `${given.dtype}[${given.shape.join(', ')}]`;
		const fits = given?.dtype === dtype && given.shape.slice(1).join() === shape.join() && given.shape.length === shape.length + 1;
		count ??= given?.shape[0];
		if (fits && given.shape[0] === count) continue;
		throw new DiffusionPipeError('internal', `input ${name} does not fit`, {
			place: chain.name,
			expected: `${dtype}[${[count ?? 'samples', ...shape].join(', ')}]`,
			found,
		});
	}
	return count ?? 0;
}

/** `rows` samples of `t` from `from` on, zeros beyond its end. */
function rowsOf(t: Tensor, from: number, rows: number): Tensor {
	const shape = [rows, ...t.shape.slice(1)];
	const part: Tensor = { dtype: t.dtype, shape, data: makeArray(t.dtype, sizeOf(shape)) };
	copyRows(t, from, part, 0, Math.min(rows, t.shape[0]! - from));
	return part;
}

function copyRows(source: Tensor, from: number, target: Tensor, to: number, rows: number): void {
	const stride = sizeOf(source.shape.slice(1));
	const piece = source.data.subarray(from * stride, (from + rows) * stride);
	// Both arrays hold the same element type; the compiler sees only that each holds some.
	(target.data as Float32Array).set(piece as Float32Array, to * stride);
}
