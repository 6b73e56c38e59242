package stemforge.app;

import android.content.ContentResolver;
import android.content.ContentUris;
import android.content.ContentValues;
import android.content.Context;
import android.database.Cursor;
import android.media.MediaScannerConnection;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.os.Environment;
import android.os.ParcelFileDescriptor;
import android.provider.MediaStore;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

/**
 * A file in Music/stemforge. Other apps see it once it is published.
 *
 * <p>From Android 10 on it is MediaStore's, pending until then; before, it is a file with a
 * temporary name.
 */
abstract class MusicFile {
  private static final String FOLDER = "stemforge";
  private static final String PATH = Environment.DIRECTORY_MUSIC + "/" + FOLDER + "/";
  private static final String TEMPORARY = ".part";
  private static final int MOST_NAME_BYTES = 200; // of 255, for endings and numbers

  /** Opens it to write; the caller closes it. */
  abstract ParcelFileDescriptor open() throws IOException;

  /** Gives it its name, and returns where it can be read. */
  abstract Uri publish() throws IOException;

  /** Deletes it. */
  abstract void discard();

  static MusicFile create(Context context, String name, StemFormat format) throws IOException {
    String file = fitting(name) + "." + format.extension;
    if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
      return new Stored(context, file, format);
    }
    return new Plain(context, file);
  }

  /** The name without what file systems do not take, and short enough for all of them. */
  private static String fitting(String name) {
    String clean = name.replaceAll("[\\\\/:*?\"<>|\\p{Cntrl}]", "_");
    while (clean.getBytes(StandardCharsets.UTF_8).length > MOST_NAME_BYTES) {
      clean = clean.substring(1); // the end tells the stem
    }
    return clean;
  }

  /** Deletes what runs that were killed have left. Only while nothing is being written. */
  static void discardLeftovers(Context context) {
    if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
      Stored.discardLeftovers(context);
    } else {
      Plain.discardLeftovers();
    }
  }

  private static final class Stored extends MusicFile {
    private static final Uri FILES =
        MediaStore.Audio.Media.getContentUri(MediaStore.VOLUME_EXTERNAL_PRIMARY);

    private final Context context;
    private final ContentResolver resolver;
    private final Uri uri;

    Stored(Context context, String name, StemFormat format) throws IOException {
      this.context = context;
      resolver = context.getContentResolver();
      ContentValues values = new ContentValues();
      values.put(MediaStore.MediaColumns.DISPLAY_NAME, name);
      values.put(MediaStore.MediaColumns.MIME_TYPE, format.mime);
      values.put(MediaStore.MediaColumns.RELATIVE_PATH, PATH);
      values.put(MediaStore.MediaColumns.IS_PENDING, 1);
      try {
        uri = resolver.insert(FILES, values);
      } catch (IllegalArgumentException | IllegalStateException | SecurityException error) {
        throw new Failure(context, R.string.cannot_write, error.getMessage());
      }
      if (uri == null) {
        throw new Failure(context, R.string.cannot_write, name);
      }
    }

    @Override
    ParcelFileDescriptor open() throws IOException {
      ParcelFileDescriptor file = resolver.openFileDescriptor(uri, "rw");
      if (file == null) {
        throw new IOException(uri.toString());
      }
      return file;
    }

    @Override
    Uri publish() throws Failure {
      ContentValues values = new ContentValues();
      values.put(MediaStore.MediaColumns.IS_PENDING, 0);
      try {
        if (resolver.update(uri, values, null, null) == 1) {
          return uri;
        }
      } catch (IllegalArgumentException | IllegalStateException | SecurityException error) {
        throw new Failure(context, R.string.cannot_write, error.getMessage());
      }
      throw new Failure(context, R.string.cannot_write, uri);
    }

    @Override
    void discard() {
      resolver.delete(uri, null, null);
    }

    /** Pending files are shown to the app alone that made them. */
    @SuppressWarnings("deprecation") // Android 10 has no other way
    static void discardLeftovers(Context context) {
      ContentResolver resolver = context.getContentResolver();
      String[] columns = {MediaStore.MediaColumns._ID};
      String where =
          MediaStore.MediaColumns.IS_PENDING + "=1 AND "
              + MediaStore.MediaColumns.OWNER_PACKAGE_NAME + "=?";
      Bundle query = new Bundle();
      query.putString(ContentResolver.QUERY_ARG_SQL_SELECTION, where);
      query.putStringArray(
          ContentResolver.QUERY_ARG_SQL_SELECTION_ARGS, new String[] {context.getPackageName()});
      Uri files = FILES;
      if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
        query.putInt(MediaStore.QUERY_ARG_MATCH_PENDING, MediaStore.MATCH_INCLUDE);
      } else {
        files = MediaStore.setIncludePending(files);
      }
      try (Cursor found = resolver.query(files, columns, query, null)) {
        while (found != null && found.moveToNext()) {
          resolver.delete(ContentUris.withAppendedId(FILES, found.getLong(0)), null, null);
        }
      }
    }
  }

  private static final class Plain extends MusicFile {
    private final Context context;
    private final File temporary;
    private final String name;
    private File published;

    Plain(Context context, String name) throws IOException {
      this.context = context;
      File folder = folder();
      if (!folder.isDirectory() && !folder.mkdirs()) {
        throw new Failure(context, R.string.cannot_write, folder);
      }
      this.name = name;
      temporary = File.createTempFile(".stem", TEMPORARY, folder);
    }

    @Override
    ParcelFileDescriptor open() throws IOException {
      return ParcelFileDescriptor.open(temporary, ParcelFileDescriptor.MODE_READ_WRITE);
    }

    @Override
    Uri publish() throws IOException {
      File file = free(temporary.getParentFile(), name);
      if (!temporary.renameTo(file)) {
        throw new Failure(context, R.string.cannot_write, file);
      }
      published = file;
      MediaScannerConnection.scanFile(context, new String[] {file.getPath()}, null, null);
      return Uri.fromFile(file);
    }

    @Override
    void discard() {
      temporary.delete();
      if (published != null) {
        published.delete();
      }
    }

    /** The name with a number behind it where a file has it, as MediaStore does. */
    private static File free(File folder, String name) {
      File file = new File(folder, name);
      int dot = name.lastIndexOf('.');
      for (int n = 1; file.exists(); n++) {
        file = new File(folder, name.substring(0, dot) + " (" + n + ")" + name.substring(dot));
      }
      return file;
    }

    static void discardLeftovers() {
      File[] left = folder().listFiles((folder, name) -> name.endsWith(TEMPORARY));
      if (left != null) {
        for (File file : left) {
          file.delete();
        }
      }
    }

    @SuppressWarnings("deprecation") // Android 9 and older have no other way
    private static File folder() {
      return new File(
          Environment.getExternalStoragePublicDirectory(Environment.DIRECTORY_MUSIC), FOLDER);
    }
  }
}
