/** @file What a pipeline is, whatever its class: options in, images out. */
import type { SchedulerConfig } from '../diffusion/samplers/index.ts';
import type { PipelineIndex } from '../io/model-folder.ts';
import type { SampleConfig } from '../io/sample-config.ts';
import type { LoraOptions } from './lora.ts';
import type { ModelPart, RunOptions } from './parts.ts';

/** What to draw and how. Left out, an option has the value that the run which made the pipeline drew with, or else that its class is published with. */
export interface GenerateOptions {
	/**
	 * For models of texts: one image each. Each starts from noise that is a function of the seed and of how often its prompt stands before it in the
	 * list, so that a prompt repeated gives other images, and what else is in the list changes none.
	 */
	readonly prompts?: readonly string[];
	/** What guidance leads away from; '' unless given. */
	readonly negativePrompt?: string;
	/** For class-conditional models: one image each. Image i starts from noise that is a function of the seed and i. */
	readonly labels?: readonly number[];
	/** Image file to start from in place of noise; scaled to cover the size and cropped in the centre. */
	readonly image?: string;
	/** How much of the image is noise at the start: 0 gives it back as the autoencoder has it, 1 starts from noise all but alone. */
	readonly strength?: number;
	/** Image file for the ControlNet that the pipeline was opened with. */
	readonly controlImage?: string;
	/** What the ControlNet's residuals are multiplied by. Default 1. */
	readonly controlScale?: number;
	/** Pixels. */
	readonly height?: number;
	readonly width?: number;
	/** Denoising steps; with an image, the share `strength` of them is taken. */
	readonly steps?: number;
	/** Above 1, predictions are led towards the prompt; for Flux a number its model takes. */
	readonly guidanceScale?: number;
	/** Default 0. */
	readonly seed?: number;
	/** Class of another scheduler to use with the options it shares. */
	readonly scheduler?: string;
	/** Stops between two steps. */
	readonly signal?: AbortSignal;
	readonly onEvent?: (event: GenerateEvent) => void;
}

/** What happens while images are made. */
export type GenerateEvent =
	| { readonly kind: 'step'; readonly step: number; readonly steps: number }
	| { readonly kind: 'note'; readonly text: string };

/** Finished images. */
export interface Generated {
	/** [images, channels, height, width], values in [-1, 1]. */
	readonly images: Float32Array;
	readonly shape: readonly [images: number, channels: number, height: number, width: number];
}

/** A pipeline folder opened for use. Parts run one after the other, each on devices of its own, and hold memory only while they run. */
export interface Pipeline {
	readonly folder: string;
	/** Of `model_index.json`, as `StableDiffusionPipeline`. */
	readonly className: string;
	/** What images are asked for with. */
	readonly takes: 'prompts' | 'labels';
	/** Names of the classes by label, where the model has classes with names. */
	readonly classes: readonly string[] | undefined;
	/** Labels are below this number; undefined for models without labels. */
	readonly labelCount: number | undefined;
	/** Of the run that made it. */
	readonly sampling: SampleConfig;
	/** Throws usage, config and input errors before any work. */
	generate(options: GenerateOptions): Promise<Generated>;
	/** Closes the files. */
	close(): Promise<void>;
}

/** A pipeline folder before its models are opened. */
export interface PipelineFolder {
	readonly folder: string;
	readonly index: PipelineIndex;
	readonly scheduler: SchedulerConfig;
	/** For errors. */
	readonly schedulerFile: string;
	/** What is drawn with where nobody says otherwise, before what the class is published with. */
	readonly sampling: SampleConfig;
}

/** How a pipeline is opened. */
export interface OpenOptions extends RunOptions, LoraOptions {
	/** A ControlNet kept apart from the pipeline. */
	readonly controlNet?: ModelPart | undefined;
}

/** A class of pipelines: opens a folder of it. */
export type PipelineClass = (folder: PipelineFolder, options: OpenOptions) => Promise<Pipeline>;
