/**
 * @file Training a ControlNet (Zhang et al., 2302.05543) beside a locked U-Net: the copy of the encoder is trained, gradients pass through the locked
 * decoder to it, and the locked encoder only runs forward, on noised latents and text that are known before the step.
 */
import { controlNetChain, readControlNetConfig } from '../../../models/controlnet.ts';
import { joinControl, splitUNet } from '../../../models/locked-unet.ts';
import type { JobChains } from '../chain-work.ts';
import { clipL, vaeEncoder } from './parts.ts';
import { sd15Config, sd15UNet } from './stable-diffusion.ts';

/** ControlNet 1.0 on Stable Diffusion 1.5 at 512 pixels: 361.28M parameters trained. */
export function controlnet(): JobChains {
	const control = controlNetChain(readControlNetConfig(sd15Config), { height: 64, width: 64 });
	const { encoder, decoder } = splitUNet(sd15UNet({ residuals: 'maps' }));
	return {
		name: 'controlnet',
		backbones: [{ name: 'controlnet', chain: joinControl(control, decoder) }],
		frozen: [
			{ name: 'vae', chain: vaeEncoder(512) },
			{ name: 'text_encoder', chain: clipL() },
			{ name: 'unet_encoder', after: ['vae', 'text_encoder'], chain: encoder },
		],
	};
}
