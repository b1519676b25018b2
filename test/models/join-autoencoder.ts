/** @file An encoder and a decoder as one chain, for tests: the decoder reads the mean of the encoder. */
import type { Chain } from '../../src/nn/chain.ts';

/** x to sample, mean and logvar. */
export function joinAutoencoder(encoder: Chain, decoder: Chain): Chain {
	return {
		name: 'autoencoder',
		inputs: encoder.inputs,
		layers: [...encoder.layers, { name: 'latent', build: (_, live) => live.set('z', live.get('mean')) }, ...decoder.layers],
		outputs: [...encoder.outputs, ...decoder.outputs],
	};
}
