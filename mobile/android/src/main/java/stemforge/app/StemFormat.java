package stemforge.app;

/** What the stems are written as. */
enum StemFormat {
  WAV("wav", "audio/x-wav", Sink.RATE_HZ * WavSink.BYTES_PER_SAMPLE),
  M4A("m4a", "audio/mp4", M4aSink.BIT_RATE / 8);

  final String extension;
  final String mime;
  final int bytesPerSecond;

  StemFormat(String extension, String mime, int bytesPerSecond) {
    this.extension = extension;
    this.mime = mime;
    this.bytesPerSecond = bytesPerSecond;
  }
}
