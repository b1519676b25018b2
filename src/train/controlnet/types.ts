/** @file What a ControlNet is trained beside. */
import type { TensorReader } from '../../io/safetensors.ts';
import type { Chain } from '../../nn/chain.ts';

/** A U-Net that is not trained, opened. */
export interface LockedUNet {
	readonly folder: string;
	readonly className: string;
	/** Its config, checked, with all defaults. */
	readonly config: Readonly<Record<string, unknown>>;
	readonly weights: TensorReader;
	/** Name of the file of weights, or of their index. */
	readonly weightsFile: string;
}

/** A ControlNet and its U-Net (with control residuals as inputs), apart, for the same size of samples. */
export interface ControlChains {
	readonly control: Chain;
	readonly unet: Chain;
}
