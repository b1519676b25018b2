/** @file What a filled run of the trainer runs frozen, by its config: autoencoder, text encoder, and of a ControlNet the locked U-Net's encoder. */
import { toFloat32 } from '../../io/half.ts';
import type { Chain } from '../../nn/chain.ts';
import type { SizedParts } from '../buckets.ts';
import type { TrainConfig } from '../config.ts';
import type { ControlChains, LockedUNet } from '../controlnet/types.ts';
import type { PixelSize } from '../data/types.ts';
import { packagedPath } from '../frozen.ts';
import { withPeaks } from '../planned.ts';
import type { SelfConditioning } from '../self-conditioning.ts';
import { controlNetRun, lockedEncoder } from './controlnet.ts';
import { type FrozenStore, frozenStore } from './frozen-store.ts';
import { openRunParts, type RunParts } from './parts.ts';
import { compileFilled, type FilledPlan, measureRun } from './plan.ts';

/** What is trained on pictures of one size. */
export interface FilledSize extends Pick<SizedParts, 'chain' | 'control'> {
	readonly pixels: PixelSize;
}

/** The frozen parts of a size and what is trained beside them. */
export interface FilledParts extends RunParts {
	readonly chain: Chain;
	/** Feeds of a step that a part takes a step early, too, by its name. */
	readonly early: Readonly<Record<string, readonly string[]>>;
}

/** Opens a run's frozen parts (with `locked`, a ControlNet's), and closes them when they were used. Throws config and input errors. */
export async function withRunParts<T>(
	config: TrainConfig,
	locked: LockedUNet | undefined,
	{ chain, control, pixels }: FilledSize,
	use: (parts: FilledParts) => Promise<T>,
): Promise<T> {
	const vae = config.vae.path === '' ? '' : await packagedPath(config.vae.path, 'vae.path');
	const text = config.text_encoder.path === '' ? '' : await packagedPath(config.text_encoder.path, 'text_encoder.path');
	const parts = await openRunParts(vae, text, pixels, chain.inputs.pooled_projections !== undefined);
	try {
		return await use(control && locked ? controlled(parts, control, locked, config) : { ...parts, chain, early: {} });
	} finally {
		await parts.close();
	}
}

/** The parts of a ControlNet's run: `own`, and the locked U-Net's encoder. */
function controlled(own: RunParts, { control, unet }: ControlChains, locked: LockedUNet, { train }: TrainConfig): FilledParts {
	const part = (name: string) => own.parts.find((known) => known.name === name);
	const weights = async (name: string) => toFloat32(await locked.weights.read(name)).data;
	const { early, ...run } = controlNetRun(control, unet, [part('vae'), part('text_encoder')!], weights, train.batch_size);
	return { ...run, early: { [lockedEncoder]: early }, close: own.close };
}

/** `filled` with its frozen weights where programs of other sizes have them, too. */
export async function sharing(filled: FilledPlan, { parts }: RunParts, store: FrozenStore): Promise<FilledPlan> {
	const compiled = await store.place(filled.compiled, parts);
	return { ...filled, compiled, plan: withPeaks(filled.plan, compiled.program) };
}

/**
 * What a run would plan now for `size`, the first of several where `several`: every layer is measured, no device is started. Throws what measuring, search
 * and lowering throw.
 */
export function planFilledRun(
	config: TrainConfig,
	locked: LockedUNet | undefined,
	size: FilledSize,
	{ several, selfConditioning }: { readonly several: boolean; readonly selfConditioning: SelfConditioning | undefined },
): Promise<FilledPlan> {
	return withRunParts(config, locked, size, async (parts) => {
		const average = config.train.ema_decay > 0;
		const profile = await measureRun(config, parts.chain, parts, average);
		const filled = compileFilled(config, parts.chain, parts, profile, average ? 3 : 2, { selfConditioning });
		return several ? sharing(filled, parts, frozenStore()) : filled;
	});
}
