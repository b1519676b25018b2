/** @file A profile, version 1: what every layer of a training job costs, as plain data that may come from a measurement, a formula or anywhere else. */

/**
 * Times of a layer in ms, one per entry of the profile's `batchSizes`; between them time is linear in the batch, outside them proportional to it. Bytes
 * are per sample unless said.
 */
export interface TrainedLayer {
	readonly name: string;
	readonly forwardMs: readonly number[];
	/** The backward pass for the layer's inputs, without that for its weights. */
	readonly backwardInputMs: readonly number[];
	readonly backwardWeightMs: readonly number[];
	/** The live set at the cut after this layer: what would be sent there, skips included. */
	readonly cutBytes: number;
	/** What the forward saves for the backward. */
	readonly activationBytes: number;
	/** Per layer, not per sample; so are the next three. */
	readonly paramBytes: number;
	readonly gradBytes: number;
	/** Optimiser state; twice `paramBytes` (AdamW) unless given. */
	readonly optimizerBytes?: number;
	/** The optimiser's step, ms; 0 unless given. */
	readonly updateMs?: number;
}

/** A value that layer `from` makes and layer `to` is the last to use, such as a U-Net's skip; `cutBytes` of layers from .. to-1 include its bytes. */
export interface Skip {
	readonly from: number;
	readonly to: number;
	/** Per sample. */
	readonly bytes: number;
}

/** A model that is trained: a chain of layers. */
export interface Backbone {
	readonly name: string;
	/** Probability that an iteration runs a forward sweep of its own first, whose output is fed back to the real one (self-conditioning). */
	readonly selfConditioning: number;
	readonly layers: readonly TrainedLayer[];
	/** Known for U-Nets; folded placements keep those whose ends share a device off the links. */
	readonly skips?: readonly Skip[];
}

export interface FrozenLayer {
	readonly name: string;
	readonly forwardMs: readonly number[];
	/** What the layer hands on, per sample. */
	readonly outputBytes: number;
	/** Per layer. */
	readonly paramBytes: number;
}

/** A model that is only run, on data alone, so that it may run ahead of the iteration that uses it. */
export interface FrozenComponent {
	readonly name: string;
	/** Components whose output it takes: each must have run on a sample before. */
	readonly after: readonly string[];
	readonly layers: readonly FrozenLayer[];
}

/** What devices do beside computing layers, mean ms of each. */
export interface Handling {
	/** A slot fed from the host. */
	readonly feedMs: number;
	/** A slot fetched to the host. */
	readonly fetchMs: number;
	/** A graph of no layer: rows cut or joined, a norm. */
	readonly joinMs: number;
	/** A value handed to the link. */
	readonly sendMs: number;
	/** From when a value was sent to when the device that waits for it has it, median; absent where nobody waited: the cluster's link says it then. */
	readonly messageMs?: number;
	/** From one instruction to the next, the drops between them included. */
	readonly betweenMs: number;
	/** Of an iteration, what passes on no device: from the host's call to the first instruction and back from the last. */
	readonly stepMs: number;
}

export interface Profile {
	readonly version: 1;
	readonly name: string;
	/** Ascending; samples on one device. */
	readonly batchSizes: readonly number[];
	readonly backbones: readonly Backbone[];
	readonly frozen: readonly FrozenComponent[];
	/** Known once an iteration was traced; a program is walked with it, plans are searched without. */
	readonly handling?: Handling;
}
