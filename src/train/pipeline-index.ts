/** @file Which of diffusers' pipelines a trained model is saved as, and the names that its parts have there. */
import type { PipelineIndex } from '../io/model-folder.ts';

/** A trained denoiser, and what it was trained with. */
export interface SavedPipeline {
	/** Name of the denoiser's part. */
	readonly part: string;
	/** Class and config of the denoiser. */
	readonly model: { readonly className: string; readonly config: Readonly<Record<string, unknown>> };
	/** Class of the U-Net beside it, when it is a ControlNet. */
	readonly unet?: string | undefined;
	/** Class of the scheduler. */
	readonly scheduler: string;
	/** True when it was trained on the latents of an AutoencoderKL. */
	readonly vae: boolean;
	/** Classes of the text encoder that it was trained with, and of its tokenizer. */
	readonly text: { readonly encoder: string; readonly tokenizer: string } | undefined;
	/** Names of the classes by label. */
	readonly classes: readonly string[] | undefined;
}

/** A pipeline of diffusers as far as a trained model fills it. */
interface Recipe {
	readonly className: string;
	/** Its name for the autoencoder, where it has one. */
	readonly vae?: string;
	/** True when it has a text encoder with a tokenizer. */
	readonly text?: boolean;
	/** Parts that it also has; nothing is trained with them. */
	readonly none?: readonly string[];
	readonly options?: Readonly<Record<string, unknown>>;
}

const withoutImagePrompts = ['image_encoder', 'feature_extractor'];
const stableDiffusion = {
	vae: 'vae',
	text: true,
	none: ['safety_checker', ...withoutImagePrompts],
	options: { requires_safety_checker: false },
};

/** By the class of the denoiser. */
export const recipes: Readonly<Record<string, (saved: SavedPipeline) => Recipe>> = {
	DiTTransformer2DModel: () => ({ className: 'DiTPipeline', vae: 'vae' }),
	UNet2DModel: ({ vae, scheduler }) => {
		if (vae) return { className: 'LDMPipeline', vae: 'vqvae' };
		return { className: scheduler === 'DDIMScheduler' ? 'DDIMPipeline' : 'DDPMPipeline' };
	},
	UNet2DConditionModel: () => ({ className: 'StableDiffusionPipeline', ...stableDiffusion }),
	ControlNetModel: () => ({ className: 'StableDiffusionControlNetPipeline', ...stableDiffusion }),
	// At 128 rows PixArtAlphaPipeline tells the model the size of the image, which that of Sigma never does.
	PixArtTransformer2DModel: ({ model: { config } }) => ({
		className: config.sample_size === 128 && config.use_additional_conditions === false ? 'PixArtSigmaPipeline' : 'PixArtAlphaPipeline',
		vae: 'vae',
		text: true,
	}),
	SD3Transformer2DModel: () => ({
		className: 'StableDiffusion3Pipeline',
		vae: 'vae',
		text: true,
		none: ['text_encoder_2', 'tokenizer_2', 'text_encoder_3', 'tokenizer_3', ...withoutImagePrompts],
	}),
	FluxTransformer2DModel: () => ({
		className: 'FluxPipeline',
		vae: 'vae',
		text: true,
		none: ['text_encoder_2', 'tokenizer_2', ...withoutImagePrompts],
	}),
};

/** Key of `model_index.json` for what of its one text encoder a model was trained on. Loaders skip keys that begin with a line. */
export const textStatesKey = '_text_states';

/** What our own training takes of a text encoder, whatever the pipeline of that class takes. */
export const trainedTextStates = 'last_hidden_state';

/** An index, and the folders of the frozen parts; undefined for those that are not saved. */
export interface SavedIndex {
	readonly index: PipelineIndex;
	readonly vae: string | undefined;
	readonly text: { readonly encoder: string; readonly tokenizer: string } | undefined;
}

/**
 * The `model_index.json` of the pipeline that a model is saved as: every part that its class in diffusers takes, null for those that there are none of. A
 * class takes no more than that: a model of labels is saved without the text encoder that its run had.
 */
export function savedIndex(saved: SavedPipeline): SavedIndex {
	const { part, model, unet, scheduler, classes } = saved;
	const recipe = recipes[model.className]!(saved);
	const vae = recipe.vae !== undefined && saved.vae ? recipe.vae : undefined;
	const text = recipe.text ? saved.text : undefined;
	return {
		index: {
			className: recipe.className,
			diffusersVersion: undefined,
			parts: {
				[part]: ['diffusers', model.className],
				...(unet === undefined ? {} : { unet: ['diffusers', unet] as const }),
				scheduler: ['diffusers', scheduler],
				...(recipe.vae === undefined ? {} : { [recipe.vae]: vae ? ['diffusers', 'AutoencoderKL'] : null }),
				...(recipe.text
					? {
							text_encoder: text ? ['transformers', text.encoder] : null,
							tokenizer: text ? ['transformers', text.tokenizer] : null,
						}
					: {}),
				...Object.fromEntries((recipe.none ?? []).map((name) => [name, null])),
			},
			options: {
				...recipe.options,
				...(text ? { [textStatesKey]: trainedTextStates } : {}),
				...(classes && !recipe.text ? { id2label: Object.fromEntries(classes.map((name, i) => [String(i), name])) } : {}),
			},
		},
		vae,
		text: text && { encoder: 'text_encoder', tokenizer: 'tokenizer' },
	};
}
