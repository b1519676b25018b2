/** @file What a data set is: labelled, captioned images of one size, loaded by index. */

/** One image with what is known of it. Treat it as read-only: it may be kept and handed out again. */
export interface Example {
	/** What to call it in messages: a path or an identifier. */
	readonly name: string;
	/** [channels, height, width], values in [-1, 1]. */
	readonly image: Float32Array;
	/** Index of its class, or -1 when it has none. */
	readonly label: number;
	/** Its description, or '' when it has none. */
	readonly caption: string;
	/** In a data set of conditioned pictures, what it is conditioned on: [3, height, width], values in [0, 1]. */
	readonly conditioning?: Float32Array;
}

/** Rows and columns of an image. */
export interface PixelSize {
	readonly height: number;
	readonly width: number;
}

/** A size that some examples of a data set have. */
export interface Bucket extends PixelSize {
	/** Number of examples. */
	readonly size: number;
}

/** What is known of a data set before any image is loaded. */
export interface DataSetInfo {
	readonly name: string;
	/** Number of examples. */
	readonly size: number;
	readonly channels: number;
	readonly height: number;
	readonly width: number;
	/** Names of the classes by label, or undefined when the examples have no labels. */
	readonly classes: readonly string[] | undefined;
	/** Where examples have several sizes: all of them, each with one example at least. `height` and `width` are then those asked for first. */
	readonly buckets?: readonly Bucket[] | undefined;
	/** Whether every example has a conditioning picture. */
	readonly conditioned?: boolean | undefined;
	/** Steps of one size in a row at most, where there are several; 1 unless given. */
	readonly bucketRunLength?: number | undefined;
	/** The licence and whom to name when the data or what was trained on it is shown. */
	readonly licence: string;
}

/** A set of images. `load` rejects with a DiffusionPipeError when one example cannot be had; the others stay usable. */
export interface DataSet extends DataSetInfo {
	/** The name of an example, without loading it. */
	nameOf(index: number): string;
	/** Which of `buckets` an example is in, where there are any. */
	bucketOf?(index: number): number;
	load(index: number): Promise<Example>;
}

/** The examples of one training step. */
export interface Batch {
	readonly step: number;
	/** Of all its images. */
	readonly height: number;
	readonly width: number;
	/** [batch, channels, height, width], values in [-1, 1], in a buffer of its own that may be transferred. */
	readonly images: Float32Array<ArrayBuffer>;
	/** Class of each example, -1 for none; in a buffer of its own. */
	readonly labels: Int32Array<ArrayBuffer>;
	readonly captions: readonly string[];
	/** The examples' names, for messages and reports. */
	readonly names: readonly string[];
	/** [batch, 3, height, width], values in [0, 1], of a data set of conditioned pictures; mirrored with the images, in a buffer of its own. */
	readonly conditioning?: Float32Array<ArrayBuffer> | undefined;
	/** Which of the images are mirrored left to right. */
	readonly mirrored: readonly boolean[];
}
