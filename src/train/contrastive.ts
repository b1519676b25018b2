/** @file Contrastive training of a text and an image encoder: both towers and the symmetric loss in one chain (Radford et al., 2103.00020). */
import { randomStream } from '../core/random.ts';
import { sizeOf, type Tensor, tensor } from '../core/tensor.ts';
import type { GraphBuilder } from '../graph/builder.ts';
import type { Value } from '../graph/types.ts';
import type { Tokenizer } from '../io/tokenizer.ts';
import { type CLIPTextConfig, clipTextChain } from '../models/clip-text.ts';
import { type CLIPVisionConfig, clipVisionChain } from '../models/clip-vision.ts';
import type { Chain, Layer } from '../nn/chain.ts';
import { type Augmentation, augmentPictures } from './augment.ts';
import { sharedBuffers } from './feeds.ts';
import { type FitOptions, type FittedWeights, fitChain } from './fit.ts';
import { checkImages } from './image-check.ts';

/** The towers, with projections to the same width. */
export interface ContrastiveConfig {
	readonly text: CLIPTextConfig;
	readonly image: CLIPVisionConfig;
}

/** Logits are never scaled by more than this. */
const largestScale = 100;

/**
 * Inputs input_ids [B, T] (int64) and pixel_values [B, C, H, W], row i of one belonging to row i of the other. Output `loss` [1]: the sum over
 * the samples of this micro-batch of (cross-entropy of the own image given the text + of the own text given the image) / 2 / globalBatch, from
 * logits exp(logit_scale) * cosine of the embeddings. The others of the micro-batch, and they alone, are the wrong answers: its size is part of the
 * objective, unlike in other training. Parameters are named as in transformers' CLIPModel.
 */
export function contrastiveTrainingChain({ text, image }: ContrastiveConfig, globalBatch: number): Chain {
	const [words, pixels] = [clipTextChain(text, { projection: true }), clipVisionChain(image)];
	const loss: Layer = {
		name: 'loss',
		path: '',
		build(ctx, live) {
			const { g } = ctx;
			const [text_BD, image_BD] = [unitRows(g, live.get('text_embeds')), unitRows(g, live.get('image_embeds'))];
			const [batch] = text_BD.shape as [number];
			// CLIP starts at a temperature of 0.07.
			const logScale = ctx.param('logit_scale', [], { kind: 'constant', value: Math.log(1 / 0.07) });
			const scale = g.exp(g.clip(logScale, undefined, Math.log(largestScale)));
			const logits_BB = g.mul(g.gemm(text_BD, image_BD, undefined, { transB: true }), scale);
			const own = g.constant(tensor('float32', [batch, batch], identity(batch)));
			const total = g.mul(g.add(g.logSoftmax(logits_BB, 1), g.logSoftmax(logits_BB, 0)), own);
			live.set('loss', g.mul(g.reshape(g.reduceSum(total, [0, 1], false), [1]), -0.5 / globalBatch));
		},
	};
	return {
		name: 'CLIPModel',
		inputs: { ...words.inputs, ...pixels.inputs },
		layers: [...words.layers, ...pixels.layers, loss],
		outputs: ['loss'],
	};
}

function* identity(size: number): Iterable<number> {
	for (let i = 0; i < size * size; i++) yield i % (size + 1) === 0 ? 1 : 0;
}

/** Rows of x [B, D] over their norms. */
function unitRows(g: GraphBuilder, x_BD: Value): Value {
	return g.div(x_BD, g.sqrt(g.reduceSumSquare(x_BD, [1])));
}

/**
 * Trains both encoders from their first weights on the images and captions of `options.data`, which must have the config's size. `augment` changes
 * the images at random.
 */
export async function trainContrastive(
	config: ContrastiveConfig,
	tokenizer: Tokenizer,
	options: FitOptions & { readonly augment?: Augmentation },
): Promise<FittedWeights> {
	const chain = contrastiveTrainingChain(config, options.config.train.batch_size);
	const image = chain.inputs.pixel_values!.shape;
	const [tokens] = chain.inputs.input_ids!.shape as [number];
	const { augment } = options;
	const changes = randomStream(options.seed, 'train.augment');
	return fitChain(chain, options, (info) => {
		checkImages(info, image);
		const memory = sharedBuffers(3);
		return ({ step, images, captions }): Record<string, Tensor> => {
			const count = captions.length;
			const pixels = new Float32Array(memory('pixels', step, 4 * count * sizeOf(image)), 0, count * sizeOf(image));
			pixels.set(images);
			if (augment) augmentPictures(pixels, image, augment, changes, step);
			const ids = new BigInt64Array(memory('ids', step, 8 * count * tokens), 0, count * tokens);
			ids.set(tokenizer.encode(captions, { maxLength: tokens }).inputIds.data);
			return {
				input_ids: { dtype: 'int64', shape: [count, tokens], data: ids },
				pixel_values: { dtype: 'float32', shape: [count, ...image], data: pixels },
			};
		};
	});
}

/** The weights of each tower under the names of its own model, and the learned scale of the logits. */
export function splitTowers(weights: FittedWeights): { text: FittedWeights; image: FittedWeights; logitScale: number } {
	const those = (prefixes: readonly string[]) => new Map([...weights].filter(([name]) => prefixes.some((p) => name.startsWith(p))));
	return {
		text: those(['text_model.', 'text_projection.']),
		image: those(['vision_model.', 'visual_projection.']),
		logitScale: Math.min(Math.exp(weights.get('logit_scale')!.data[0]!), largestScale),
	};
}
