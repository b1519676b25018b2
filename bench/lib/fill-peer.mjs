/** @file The training of `bench fill` in PyTorch: a latent denoiser under frozen encoders, on two processes of one thread, encoders inline. */
import { fileURLToPath } from 'node:url';
import { readControlNetConfig } from '../../dist/models/controlnet.js';
import { readPixArtConfig } from '../../dist/models/pixart.js';
import { readUNetConditionConfig } from '../../dist/models/unet-condition.js';
import { startPeer } from './peer.mjs';

const asset = (path) => fileURLToPath(new URL(`../../assets/${path}`, import.meta.url));

/** Configs with their defaults, as PyTorch's models want them. */
const resolved = {
	sd({ type, ...model }) {
		if (type !== undefined && type !== 'PixArtTransformer2DModel')
			throw new Error(`model.type: expected PixArtTransformer2DModel, found ${type}`);
		const config = readPixArtConfig(model);
		if (config.caption_channels === null) throw new Error('model.caption_channels: expected the width of the text encoder, found null');
		return { ...config, out_channels: config.out_channels ?? config.in_channels };
	},
	controlnet: ({ unet, control }) => ({ unet: readUNetConditionConfig(unet), control: readControlNetConfig(control) }),
};

/**
 * Starts two PyTorch processes that train one workload; resolves when they are warm and their fastest form is chosen.
 *
 * mode: `ddp` (DistributedDataParallel) or `pipelining` (torch.distributed.pipelining, 1F1B, `microBatches` of them, second stage from layer `cut` of the
 * chain with noising and loss, as in `planned.plan.stages[1].layers[0]`). workload: `sd`, `model` being the config of a PixArt; or `controlnet`,
 * `model` being `{ unet, control }`. `batch` is that of the whole step. Optional: `layers`, names of our chain's, to be sure that a cut means the same;
 * `noise` (`ddim` or `flow`), `seed`, `optimizer` ({ lr, betas, eps, weight_decay }), `maxGradNorm`, `form` and `trials` (what to take instead of measuring
 * it, and how often to measure), `compile` (a minute or more, with a C++ compiler), `weights` and `feeds` (safetensors: the trained PixArt, and the batch by the names of our feeds), `vae`, `textEncoder` (folders).
 *
 * `next()` takes a step on the same batch and resolves with { ms, loss, gradNorm }; `setup` tells parameters, layers, the form kept and what was tried.
 * Throws where there is no Python with PyTorch, or the request does not fit.
 */
export async function openTorchFill({ mode, workload, model, batch, microBatches = 1, cut, layers, ...options }) {
	if (!Object.hasOwn(resolved, workload)) throw new Error(`workload: expected ${Object.keys(resolved).join(' or ')}, found ${workload}`);
	if (mode === 'pipelining' && !Number.isInteger(cut))
		throw new Error(`cut: expected the layer that the second stage begins with, found ${cut}`);
	const peer = startPeer('fill.py');
	try {
		const setup = await peer.ask({
			cmd: 'setup',
			mode,
			workload,
			model: resolved[workload](model),
			batch,
			micro_batches: microBatches,
			cut,
			vae: options.vae ?? asset('emoji-vae'),
			text_encoder: options.textEncoder ?? asset('emoji-clip/text_encoder'),
			noise: options.noise,
			seed: options.seed,
			optimizer: options.optimizer,
			max_grad_norm: options.maxGradNorm,
			form: options.form,
			trials: options.trials,
			compile: options.compile,
			weights: options.weights,
			feeds: options.feeds,
		});
		if (setup.threads.some((n) => n !== 1)) throw new Error(`fill.py: expected one thread per process, found ${setup.threads}`);
		for (let i = 0; layers && i < Math.max(layers.length, setup.layers.length); i++) {
			if (layers[i] !== setup.layers[i]) throw new Error(`fill.py: layer ${i} is ${layers[i]} on our side, ${setup.layers[i]} in PyTorch`);
		}
		return {
			setup,
			async next() {
				const { ms, loss, grad_norm } = await peer.ask({ cmd: 'step' });
				return { ms, loss, gradNorm: grad_norm };
			},
			close: () => peer.close(),
		};
	} catch (error) {
		await peer.close();
		throw error;
	}
}
