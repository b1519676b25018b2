/** @file Errors as plain data, since a message between threads keeps no classes. */
import { DiffusionPipeError, type ErrorKind, type ErrorParts } from './errors.ts';

/** What a DiffusionPipeError is made of, without its cause, which may be of any class. */
export interface PackedError {
	readonly kind: ErrorKind;
	readonly what: string;
	readonly parts: Omit<ErrorParts, 'cause'>;
}

/** An error to send. What is no DiffusionPipeError becomes one of kind 'internal' at `place`, with its stack. */
export function packError(error: unknown, place: string): PackedError {
	if (!(error instanceof DiffusionPipeError)) {
		return { kind: 'internal', what: error instanceof Error ? (error.stack ?? error.message) : String(error), parts: { place } };
	}
	const { kind, what } = error;
	const { cause: _, ...parts } = error.parts;
	return { kind, what, parts };
}

/** The error that was sent. */
export function unpackError({ kind, what, parts }: PackedError): DiffusionPipeError {
	return new DiffusionPipeError(kind, what, parts);
}
