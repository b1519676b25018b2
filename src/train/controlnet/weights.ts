/** @file The weights of a ControlNet's run: which are trained, and where those of the locked U-Net come from. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DiffusionPipeError } from '../../core/errors.ts';
import { sizeOf } from '../../core/tensor.ts';
import { toFloat32 } from '../../io/half.ts';
import { readModelFolder } from '../../io/model-folder.ts';
import { locked, splitUNet } from '../../models/locked-unet.ts';
import { type Chain, traceChain } from '../../nn/chain.ts';
import { digestOfPart } from '../cache/disk-cache.ts';
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
 * Throws a config error when the U-Net in the checkpoint `path` has other weights than `locked`: what is learned depends on them. Files that are links to
 * the same one are not read.
 */
export async function checkLocked({ folder, weights, weightsFile }: LockedUNet, path: string): Promise<void> {
	const saved = join(path, 'unet');
	const inode = (of: string) =>
		stat(join(of, weightsFile)).then(
			({ dev, ino }) => `${dev} ${ino}`,
			() => undefined,
		);
	const own = await inode(folder);
	// One index may stand for other shards.
	if (weightsFile.endsWith('.safetensors') && own !== undefined && own === (await inode(saved))) return;
	const before = await readModelFolder(saved);
	try {
		if ((await digestOfPart(before.weights, '')) === (await digestOfPart(weights, ''))) return;
	} finally {
		await before.weights.close();
	}
	throw new DiffusionPipeError('config', 'is another U-Net than when the checkpoint was made', {
		place: 'model.pretrained',
		expected: `the weights in ${saved}`,
		found: folder,
		hint: 'give the old one back, or --allow-config-change to go on with this one',
	});
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
