/** @file Runs the optimiser's graph over a bank, in place: what is the same for all elements once, the rest as one loop or chunk by chunk. */
import { hoist } from '../../graph/hoist.ts';
import type { Graph } from '../../graph/types.ts';
import { bankChunk } from '../../program/layout.ts';
import type { Bank } from '../../program/types.ts';
import type { BankMemory } from './banks.ts';
import { instantiate } from './kernel/memory.ts';
import { addressOf, dataOf, type Environment, releaseValue, type Session, tensorOver, viewNative } from './native.ts';
import type { Pointer } from './ort.ts';
import type { GraphModel, UpdateModels } from './protocol.ts';

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

/** One step, given what the further inputs of `each` are. */
interface Step {
	run(further: readonly Pointer[]): void;
	release(): void;
}

const pointers = (count: number) => new BigUint64Array(new SharedArrayBuffer(8 * count));

/** Runs an optimiser over a bank: the outputs are written over what they were made from. */
export function createUpdater(
	environment: Environment,
	models: UpdateModels,
	open: (model: GraphModel) => Session,
	bank: Bank,
	memory: BankMemory,
): Updater {
	const once = models.once && open(models.once);
	const elements = bank.trained ?? bank.size;
	const step =
		models.kernel && memory.memory
			? byKernel(instantiate(models.kernel, memory.memory), elements, memory)
			: byGraph(environment, open(models.each), models.further.length, elements, memory);
	/** Hyperparameters, squared norm, and the outputs of `once`. */
	const shared = pointers(2 + (models.once?.outputs.length ?? 0));
	const results = shared.subarray(2);
	return {
		run(hyper, normSquared) {
			shared[0] = hyper;
			shared[1] = normSquared;
			results.fill(0n);
			once?.run(shared, results);
			try {
				step.run(models.further.map((place) => shared[place]!));
			} finally {
				results.forEach(releaseValue);
			}
		},
		release() {
			once?.release();
			step.release();
		},
	};
}

const arraysOf = ({ parameter, gradient, moments }: BankMemory) => [parameter, gradient!, ...moments];

function byKernel(kernel: (...args: number[]) => void, elements: number, memory: BankMemory): Step {
	const addresses = arraysOf(memory).map((array) => array.byteOffset);
	return {
		run(further) {
			const numbers = further.map((value) => (viewNative(dataOf(value), 'float32', 1) as Float32Array)[0]!);
			if (elements > 0) kernel(4 * elements, ...addresses, ...addresses, ...numbers);
		},
		release() {},
	};
}

/** By ONNX Runtime, a pass per operator, over chunks that stay in cache from one pass to the next. */
function byGraph(environment: Environment, each: Session, furtherCount: number, elements: number, memory: BankMemory): Step {
	const arrays = arraysOf(memory);
	const bases = arrays.map(addressOf);
	const width = arrays.length;
	const type = { dtype: 'float32', shape: [bankChunk] } as const;
	const tensors = Array.from({ length: elements / bankChunk }, (_, c) =>
		bases.map((base) => tensorOver(environment, base + BigInt(c * bankChunk * 4), type)),
	);
	const inputs = pointers(width + furtherCount);
	const outputs = pointers(width);
	return {
		run(further) {
			inputs.set(further, width);
			for (const chunk of tensors) {
				inputs.set(chunk);
				outputs.set(chunk);
				each.run(inputs, outputs);
			}
		},
		release() {
			for (const chunk of tensors) for (const t of chunk) releaseValue(t);
			each.release();
			arrays.length = 0;
		},
	};
}
