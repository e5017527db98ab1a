/* Failures as Java objects: the bytes that Flink's Java client expects in "serialized-throwable". It turns them into an
 * exception, and what that says is all that a user of the Java command line sees of a failure.
 * source: Java Object Serialization Specification, chapter 6 (stream protocol); classes org.apache.flink.util.SerializedThrowable
 * (serialVersionUID 7284183123441947635 from 1.3 to 2.1), java.lang.Exception, java.lang.Throwable. Thread: any. */
#ifndef MILLRACE_REST_JAVA_THROWABLE_H
#define MILLRACE_REST_JAVA_THROWABLE_H

/* class_name: of the outermost failure, when its line does not begin with one
 * lines:      "class: message\nCaused by: class: message\n…", a Java object a storey, each the cause of the one before
 * Returns the object stream in Base64, malloced. Bytes that are no UTF-8 become '?'. */
char *java_throwable_base64(const char *class_name, const char *lines);

#endif
