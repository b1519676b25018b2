/** @file Runs the optimiser's graph over a bank in cache-sized chunks, in place; what is the same for all chunks is computed once. */
import { hoist } from '../../graph/hoist.ts';
import type { Graph } from '../../graph/types.ts';
import { bankChunk } from '../../program/layout.ts';
import type { Bank } from '../../program/types.ts';
import { addressOf, type Environment, releaseValue, type Session, tensorOver } from './native.ts';
import type { Pointer } from './ort.ts';
import type { BankMemory } from './protocol.ts';

/** An optimiser's graph in two parts, as graphs or as what was made of them. */
export interface UpdateParts<T> {
	/** From hyperparameters and squared norm to what is the same for all chunks; undefined when there is nothing to compute. */
	readonly once: T | undefined;
	/** Inputs: parameter, gradient and moments (chunks), then what `further` names. */
	readonly each: T;
	/** Further inputs of `each`: 0 is the vector of hyperparameters, 1 the squared norm, 2 + i output i of `once`. */
	readonly further: readonly number[];
}

/**
 * Parts an optimiser's graph. Its inputs are parameter, gradient, each moment (chunks of `bankChunk`), then hyperparameters and squared norm; its
 * outputs the new parameter, gradient and moments.
 */
export function updateParts(graph: Graph): UpdateParts<Graph> {
	const shared = graph.inputs.slice(-2);
	const { once, each } = hoist(graph, shared);
	const places = [...shared, ...once.outputs];
	const further = each.inputs.slice(graph.inputs.length - 2).map((name) => places.indexOf(name));
	return { once: once.outputs.length > 0 ? once : undefined, each, further };
}

export interface Updater {
	/** One step with these hyperparameters and squared gradient norm; gradients are zero afterwards. */
	run(hyper: Pointer, normSquared: Pointer): void;
	release(): void;
}

const pointers = (count: number) => new BigUint64Array(new SharedArrayBuffer(8 * count));

/** Runs an optimiser over a bank: the outputs are written over what they were made from. */
export function createUpdater(
	environment: Environment,
	{ once, each, further }: UpdateParts<Session>,
	bank: Bank,
	memory: BankMemory,
): Updater {
	const arrays = [memory.parameter, memory.gradient!, ...memory.moments].map((b) => new Float32Array(b));
	const bases = arrays.map(addressOf);
	const chunks = (bank.trained ?? bank.size) / bankChunk;
	const type = { dtype: 'float32', shape: [bankChunk] } as const;
	const width = arrays.length;
	const tensors = Array.from({ length: chunks }, (_, c) =>
		bases.map((base) => tensorOver(environment, base + BigInt(c * bankChunk * 4), type)),
	);
	const made = further.filter((place) => place >= 2).length;
	/** Hyperparameters, squared norm, and the outputs of `once`. */
	const shared = pointers(2 + made);
	const results = shared.subarray(2);
	const inputs = pointers(width + further.length);
	const outputs = pointers(width);
	return {
		run(hyper, normSquared) {
			shared[0] = hyper;
			shared[1] = normSquared;
			results.fill(0n);
			once?.run(shared, results);
			further.forEach((place, i) => {
				inputs[width + i] = shared[place]!;
			});
			try {
				for (const chunk of tensors) {
					inputs.set(chunk);
					outputs.set(chunk);
					each.run(inputs, outputs);
				}
			} finally {
				results.forEach(releaseValue);
			}
		},
		release() {
			for (const chunk of tensors) for (const t of chunk) releaseValue(t);
			once?.release();
			each.release();
			arrays.length = 0;
		},
	};
}
