/** @file Bytes of what training holds, by precision. */

/**
 * `mixed`: 16-bit floats for weights, activations and gradients, with float32 master weights and moments in the optimiser (Micikevicius et al.,
 * 1710.03740; Rajbhandari et al., 1910.02054). `float32`: everything in float32.
 */
export type Precision = 'mixed' | 'float32';

export interface ElementBytes {
	/** Of activations, and of weights as layers read them. */
	readonly element: number;
	readonly gradient: number;
	/** Per trained parameter: AdamW's moments and, if mixed, the master weight. */
	readonly optimizer: number;
	/** Per trained parameter, what the optimiser's step reads and writes. */
	readonly update: number;
}

/** Both updates move 28 bytes: mixed reads and writes three float32 (24) beside a 16-bit gradient and weight (4), float32 the same three and a gradient. */
export const elementBytes: Readonly<Record<Precision, ElementBytes>> = {
	mixed: { element: 2, gradient: 2, optimizer: 12, update: 28 },
	float32: { element: 4, gradient: 4, optimizer: 8, update: 28 },
};
