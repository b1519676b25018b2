/**
 * @file What a training job asks of any accelerator: multiply-accumulates, elements moved and kernels of every layer, as plain data. Elements rather
 * than bytes, since it is the precision that says how wide one is.
 */

/** One way through a layer: forward, backward for its inputs, or backward for its weights. */
export interface PassWork {
	/** Multiply-accumulates per sample of convolutions with windows larger than 1. */
	readonly convMacs: number;
	/** Of matrix products, convolutions of 1 x 1 among them. */
	readonly matmulMacs: number;
	/** Of attention, its scores and its weighted sums, run as one kernel that keeps the scores to itself (Dao et al., 2205.14135). */
	readonly attentionMacs: number;
	/** Elements per sample that those read and write, weights apart. */
	readonly productElements: number;
	/** Elements per sample that everything else reads and writes: norms, activations, sums. */
	readonly passElements: number;
	/** Elements of weights read, or of their gradients written: once, whatever the batch. */
	readonly weightElements: number;
	/** Kernels launched. */
	readonly kernels: number;
}

export const noWork: PassWork = {
	convMacs: 0,
	matmulMacs: 0,
	attentionMacs: 0,
	productElements: 0,
	passElements: 0,
	weightElements: 0,
	kernels: 0,
};

/** A layer of a backbone. Elements are per sample but for those of parameters. */
export interface LayerWork {
	readonly name: string;
	readonly forward: PassWork;
	readonly backwardInput: PassWork;
	readonly backwardWeight: PassWork;
	/** The live set at the cut after the layer. */
	readonly cutElements: number;
	/** Saved for the backward. */
	readonly savedElements: number;
	readonly parameters: number;
	/** Those of them that are trained. */
	readonly trainedParameters: number;
}

export interface BackboneWork {
	readonly name: string;
	readonly layers: readonly LayerWork[];
	/** Values made by layer `from` that layers `from + 1` and `to` alone read. */
	readonly skips: readonly { readonly from: number; readonly to: number; readonly elements: number }[];
}

/** A layer of a frozen component. */
export interface FrozenLayerWork {
	readonly name: string;
	readonly forward: PassWork;
	/** The live set after the layer, per sample. */
	readonly outputElements: number;
	readonly parameters: number;
}

export interface FrozenWork {
	readonly name: string;
	/** Components whose output it takes. */
	readonly after: readonly string[];
	readonly layers: readonly FrozenLayerWork[];
}

/** A training job without a machine. */
export interface JobWork {
	readonly name: string;
	readonly backbones: readonly BackboneWork[];
	readonly frozen: readonly FrozenWork[];
}

/** The sum of passes run one after the other. */
export function addWork(...passes: readonly PassWork[]): PassWork {
	const sum: Record<keyof PassWork, number> = { ...noWork };
	for (const pass of passes) for (const key of Object.keys(sum) as (keyof PassWork)[]) sum[key] += pass[key];
	return sum;
}
