/** @file The weights of a ControlNet's run: which are trained, and where those of the locked U-Net come from. */
import { sizeOf } from '../../core/tensor.ts';
import { toFloat32 } from '../../io/half.ts';
import { locked, splitUNet } from '../../models/locked-unet.ts';
import { type Chain, traceChain } from '../../nn/chain.ts';
import { readParameter } from '../checkpoint.ts';
import type { PlacedParameter } from '../parameters.ts';
import type { ControlChains, LockedUNet } from './types.ts';

/** Whether a parameter of the run is the locked U-Net's; those are not saved with the ControlNet. */
export const isLocked = ({ name }: Pick<PlacedParameter, 'name'>): boolean => name.startsWith(locked);

/** Sets the parameters of a run that are the locked U-Net's. Throws an input error for one that it lacks or has in another shape. */
export async function readLocked(parameters: readonly PlacedParameter[], { weights, folder }: LockedUNet): Promise<void> {
	for (const p of parameters.filter(isLocked)) {
		const values = await readParameter(weights, p.name.slice(locked.length), p.shape, folder);
		for (const view of p.views('parameter')) view.set(values);
	}
}

/**
 * `parameters` and, in memory of their own, those of `chain` that the run holds elsewhere: of a filled run the locked encoder's, which evaluation and pictures
 * need, too.
 */
export async function wholeParameters(
	parameters: readonly PlacedParameter[],
	chain: Chain,
	{ weights }: LockedUNet,
): Promise<readonly PlacedParameter[]> {
	const held = new Set(parameters.map(({ name }) => name));
	const missing = [...traceChain(chain, 1).parameters.values()].filter(({ name }) => !held.has(name));
	if (missing.length === 0) return parameters;
	const offsets: number[] = [];
	let elements = 0;
	for (const { shape } of missing) {
		offsets.push(elements);
		elements += sizeOf(shape);
	}
	const memory = new Float32Array(new SharedArrayBuffer(4 * elements));
	const added: PlacedParameter[] = [];
	for (const [i, parameter] of missing.entries()) {
		const [offset, size] = [offsets[i]!, sizeOf(parameter.shape)];
		memory.set(toFloat32(await weights.read(parameter.name.slice(locked.length))).data, offset);
		added.push({ ...parameter, trained: false, offset, views: () => [memory.subarray(offset, offset + size)] });
	}
	return [...parameters, ...added];
}

/** Cuts of a filled run's chain (the ControlNet, then the locked decoder) as cuts of the chain with the locked encoder between them. */
export function wholeCuts(cuts: readonly number[], { control, unet }: ControlChains): readonly number[] {
	// One layer, noising, comes before both.
	const decoder = 1 + control.layers.length;
	const added = splitUNet(unet).encoder.layers.length;
	return cuts.map((cut) => (cut > decoder ? cut + added : cut));
}
